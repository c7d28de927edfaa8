"""What a row's label means: an index from 0, a letter, "(A)", or an option's text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

_LETTER = re.compile(r"\(?([A-Za-z])[.):]?")


class LabelFault(Exception):
    """A label that names no option, or more than one: `kind` says so, `detail` which it is."""

    def __init__(self, kind: str, detail: str = "") -> None:
        self.kind, self.detail = kind, detail
        super().__init__(f"{kind} ({detail})" if detail else kind)


def right_options(label: object, options: Sequence[str]) -> tuple[int, ...]:
    """The indices of the options that `label` names, ascending; a list names each of its own.

    A label that can be read in two ways which disagree is refused: to grade by the wrong one
    would give figures that look right. Raises LabelFault.
    """
    labels = label if isinstance(label, list) else [label]
    if not labels or all(one is None or one == "" for one in labels):
        raise LabelFault("has no label")
    return tuple(sorted({_index(one, options) for one in labels}))


def _index(label: object, options: Sequence[str]) -> int:
    if isinstance(label, str):
        readings = _readings(label.strip(), options)
    elif isinstance(label, int) and not isinstance(label, bool):
        readings = _at(label, options) | _named(str(label), options)
    else:
        raise LabelFault("is neither an index nor a letter nor an option's text", repr(label)[:80])
    if not readings:
        raise LabelFault(f"is not among the {len(options)} options", repr(label)[:80])
    if len(readings) > 1:
        names = [f"({ascii_uppercase[index]})" for index in sorted(readings) if index < 26]
        both = " or ".join(names)
        raise LabelFault("can be read in two ways", f"{label!r}: write {both}")
    return readings.pop()


def _readings(label: str, options: Sequence[str]) -> set[int]:
    match = _LETTER.fullmatch(label)
    letter = match[1] if match else ""
    readings = _named(label, options)
    if not readings and letter:  # "(c)" where the options are a, b, c themselves
        readings = _named(letter, options)
    if letter.isupper():
        readings |= _at(ascii_uppercase.index(letter), options)
    if label.isascii() and label.isdecimal():
        readings |= _at(int(label), options) if len(label) < 4 else set()
    if readings:
        return readings
    if letter:
        readings |= _at(ascii_uppercase.index(letter.upper()), options)
    folded = label.casefold()
    return readings | {
        index for index, option in enumerate(options) if option.strip().casefold() == folded
    }


def _at(index: int, options: Sequence[str]) -> set[int]:
    return {index} if 0 <= index < len(options) else set()


def _named(label: str, options: Sequence[str]) -> set[int]:
    return {index for index, option in enumerate(options) if option.strip() == label}
