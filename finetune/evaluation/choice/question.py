"""One question of a multiple-choice test, whatever file it came from."""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_uppercase

MOST_OPTIONS = len(ascii_uppercase)  # of those that get letters of ours


@dataclass(frozen=True, slots=True)
class Question:
    """A question, its `options`, and the indices of those that are `right`.

    Judged by likelihood, option i is the text `continuations[i]` after `contexts[i]`. Judged by
    what is answered, the question is put as `asked`, which names the options by their
    `letters`, a character each. `line` is its place in the file, `id` the file's own name of it.
    """

    line: int
    id: str | None
    options: tuple[str, ...]
    letters: tuple[str, ...]
    right: tuple[int, ...]
    contexts: tuple[str, ...]
    continuations: tuple[str, ...]
    asked: str

    @property
    def chance(self) -> float:
        """The share of the options that is right: what guessing gets."""
        return len(self.right) / len(self.options)


def letters(count: int) -> tuple[str, ...]:
    """The first `count` of A, B, C, …"""
    return tuple(ascii_uppercase[:count])


def are_letters(options: tuple[str, ...]) -> bool:
    """Whether the options are but names, a character each, and their texts in the question."""
    return all(len(option) == 1 for option in options)


def listed(question: str, options: tuple[str, ...], letters: tuple[str, ...]) -> str:
    """The question with its options below, a line each, and a place for the answer."""
    lines = [f"{letter}. {option}" for letter, option in zip(letters, options, strict=True)]
    return "\n".join([question, *lines, "Answer:"])
