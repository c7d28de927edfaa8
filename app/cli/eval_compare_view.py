"""What a person sees of a pair: the prompt, and two answers side by side or one below the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from openchat_local.app.printable import one_line, printable

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.compare.pairs import Answer, Pair

SIDE_BY_SIDE = 100  # columns
_GAP = 3
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the page: text without control characters, and what stands beside it, if two
    answers do. `strong` rows are headings."""

    text: str
    beside: str | None = None
    strong: bool = False


def page_of(pair: Pair, columns: int) -> list[Row]:
    """All that is to be read of a pair, as rows of a terminal so wide: each turn of the user's
    and both answers to it."""
    wide = columns >= SIDE_BY_SIDE
    rows: list[Row] = []
    asked = [pair.prompt.asked, *pair.prompt.follow_ups]
    for turn, (text, first, second) in enumerate(zip(asked, pair.first, pair.second, strict=True)):
        if turn:
            rows.append(Row(""))
        rows.append(Row("Prompt" if turn == 0 else "Then", strong=True))
        if turn == 0:
            rows += (Row(line) for line in _before(pair, columns))
        rows += (Row(line) for line in _wrapped(text, columns))
        rows.append(Row(""))
        rows += _side_by_side(first, second, columns) if wide else _below(first, second, columns)
    return rows


def painted(row: Row, columns: int) -> str:
    """A row as it is written to the terminal. What stands beside begins at its own column,
    however wide the terminal takes an emoji to be."""
    begin = _BOLD if row.strong else ""
    if row.beside is None:
        return f"{begin}{row.text}{_PLAIN}"
    middle = _half(columns) + 2
    return (
        f"{begin}{row.text}{_PLAIN}\x1b[{middle}G\x1b[K{_DIM}│{_PLAIN} {begin}{row.beside}{_PLAIN}"
    )


def dim(text: str) -> str:
    """`text` for a terminal, less bright."""
    return f"{_DIM}{text}{_PLAIN}"


def bold(text: str) -> str:
    """`text` for a terminal, brighter."""
    return f"{_BOLD}{text}{_PLAIN}"


def _half(columns: int) -> int:
    return (columns - _GAP) // 2


def _before(pair: Pair, columns: int) -> Iterator[str]:
    """Turns that the file gives before the prompt, each with who said it."""
    for message in pair.prompt.messages[:-1]:
        yield from _wrapped(f"[{message.role}] {message.content}", columns)
        yield ""


def _side_by_side(first: Answer, second: Answer, columns: int) -> Iterator[Row]:
    yield Row("1", "2", strong=True)
    left, right = (_wrapped(_said(answer), _half(columns)) for answer in (first, second))
    for place in range(max(len(left), len(right))):
        one, other = (side[place] if place < len(side) else "" for side in (left, right))
        yield Row(one, other)


def _below(first: Answer, second: Answer, columns: int) -> Iterator[Row]:
    for number, answer in enumerate((first, second), 1):
        if number == 2:
            yield Row("")
        yield Row(f"── {number} ".ljust(columns, "─"), strong=True)
        yield from (Row(line) for line in _wrapped(_said(answer), columns))


def _said(answer: Answer) -> str:
    text = answer.text.strip("\n") if answer.text.strip() else "(nothing)"
    return f"{text} [cut here]" if answer.cut else text


def _wrapped(text: str, columns: int) -> list[str]:
    from rich.console import Console
    from rich.text import Text

    console = Console(width=columns)
    lines = Text(printable(text)).wrap(console, columns, overflow="fold", tab_size=4)
    return [line.plain.rstrip() for line in lines]


def fitted(text: str, columns: int) -> str:
    """`text` in one row of at most so many columns."""
    from rich.cells import set_cell_size

    return set_cell_size(one_line(text), columns).rstrip()
