"""Strings that know which of their characters are a message's.

A template sees the contents as they are, because it looks into them (it strips earlier
thoughts, trims, splits, tests). What it writes is `Marked`: each stretch carries the number of
the message it came from, or OWN. Only OWN text may become control tokens.

Every operation that a template can apply either keeps the marks exactly, or, where that
is not worth it (`title`, `tojson`), marks all of its result: a mark may spread, never vanish.
`BoundedSandbox` sends whatever Python would do without asking `Marked` through `covering`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from types import BuiltinMethodType, GeneratorType, MethodType, ModuleType
from typing import Any, SupportsIndex

OWN = -1  # the template's own text
UNKNOWN = -2  # some message's, nobody knows which
Run = tuple[int, int]  # how many characters, and whose


class Marked(str):
    """A string whose marks are runs that cover it; none is empty, no neighbours are alike.

    What is not a string's own name begins with "_", so that a template cannot reach it.
    """

    __slots__ = ("_runs",)
    _runs: tuple[Run, ...]

    def __new__(cls, text: str, runs: Iterable[Run]) -> Marked:
        self = super().__new__(cls, text)
        self._runs = tuple(
            (sum(length for length, _ in group), whose)
            for whose, group in groupby((run for run in runs if run[0]), key=lambda run: run[1])
        )
        return self

    def __getnewargs__(self) -> tuple[str, tuple[Run, ...]]:  # type: ignore[override]
        return _plain(self), self._runs  # what a copy is made of

    def __str__(self) -> str:
        return self

    def __repr__(self) -> str:
        return covered(str.__repr__(self), self)

    def __format__(self, spec: str) -> str:
        return self if not spec else covered(str.__format__(self, spec), self)

    def __add__(self, other: str) -> Marked:
        return join("", (self, other))

    def __radd__(self, other: str) -> Marked:
        return join("", (other, self))

    def __mul__(self, count: SupportsIndex) -> Marked:
        return Marked(str.__mul__(self, count), self._runs * max(0, operator.index(count)))

    __rmul__ = __mul__

    def __mod__(self, values: Any) -> str:
        return percent(self, values)

    def __rmod__(self, text: str) -> str:
        return percent(text, self)

    def __getitem__(self, key: SupportsIndex | slice) -> Marked:
        if not isinstance(key, slice):
            index = operator.index(key)
            key = slice(index, index + 1) if index != -1 else slice(-1, None)
            if not str.__getitem__(self, key):
                raise IndexError("string index out of range")
        start, stop, step = key.indices(len(self))
        if step == 1:
            return self._cut(start, stop)
        text = str.__getitem__(self, key)
        whose = [owner for length, owner in self._runs for _ in range(length)]
        return Marked(text, ((1, owner) for owner in whose[key]))

    def __iter__(self) -> Iterator[str]:
        for text, whose in pieces(self):
            for character in text:
                yield Marked(character, [(1, whose)])

    def _cut(self, start: int, stop: int) -> Marked:
        runs: list[Run] = []
        at = 0
        for length, whose in self._runs:
            runs.append((max(0, min(at + length, stop) - max(at, start)), whose))
            at += length
        return Marked(str.__getitem__(self, slice(start, stop)), runs)

    # Parts of it

    def strip(self, chars: str | None = None) -> Marked:
        return self.lstrip(chars).rstrip(chars)

    def lstrip(self, chars: str | None = None) -> Marked:
        return self._cut(len(self) - len(str.lstrip(self, chars)), len(self))

    def rstrip(self, chars: str | None = None) -> Marked:
        return self._cut(0, len(str.rstrip(self, chars)))

    def removeprefix(self, prefix: str) -> Marked:
        return self._cut(len(self) - len(str.removeprefix(self, prefix)), len(self))

    def removesuffix(self, suffix: str) -> Marked:
        return self._cut(0, len(str.removesuffix(self, suffix)))

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._parts(str.split(self, sep, maxsplit), sep)

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._parts(str.rsplit(self, sep, maxsplit), sep)

    def _parts(self, found: list[str], sep: str | None) -> list[str]:
        parts: list[str] = []
        at = 0
        for text in found:
            start = at if sep is not None else str.index(self, text, at)
            parts.append(self._cut(start, start + len(text)))
            at = start + len(text) + (len(sep) if sep is not None else 0)
        return parts

    def splitlines(self, keepends: bool = False) -> list[str]:
        parts: list[str] = []
        at = 0
        for line, whole in zip(
            str.splitlines(self, keepends), str.splitlines(self, True), strict=True
        ):
            parts.append(self._cut(at, at + len(line)))
            at += len(whole)
        return parts

    def partition(self, sep: str) -> tuple[str, str, str]:
        before, found, _ = str.partition(self, sep)
        return self._three(len(before), len(before) + len(found))

    def rpartition(self, sep: str) -> tuple[str, str, str]:
        before, found, _ = str.rpartition(self, sep)
        return self._three(len(before), len(before) + len(found))

    def _three(self, start: int, end: int) -> tuple[str, str, str]:
        return self._cut(0, start), self._cut(start, end), self._cut(end, len(self))

    # The same characters, written otherwise

    def upper(self) -> str:
        return self._letters(str.upper)

    def lower(self) -> str:
        return self._letters(str.lower)

    def _letters(self, change: Any) -> str:
        whole = change(_plain(self))
        parts = [mark(change(text), whose) for text, whose in pieces(self)]
        joined = join("", parts)
        return joined if joined == whole else covered(whole, self)

    def replace(self, old: str, new: str, count: SupportsIndex = -1) -> str:
        if not old:
            return covered(str.replace(self, old, new, count), (self, new))
        left = operator.index(count)
        parts: list[str] = []
        at = 0
        while left != 0 and (found := str.find(self, old, at)) >= 0:
            parts += (self._cut(at, found), new)
            at, left = found + len(old), left - 1
        return join("", [*parts, self._cut(at, len(self))])

    def join(self, parts: Iterable[str]) -> Marked:
        return join(self, parts)


def mark(text: str, whose: int) -> Marked:
    """`text`, all of which is one message's or the template's own."""
    return Marked(_plain(text), [(len(text), whose)])


def pieces(text: Marked) -> Iterator[tuple[str, int]]:
    """Each stretch of text, as a string without marks, and whose it is."""
    start = 0
    for length, whose in text._runs:
        yield str.__getitem__(text, slice(start, start + length)), whose
        start += length


def join(separator: str, parts: Iterable[str]) -> Marked:
    """`separator.join(parts)`, marks kept."""
    strings = [*parts]
    runs: list[Run] = []
    for index, part in enumerate(strings):
        if index and separator:
            runs += _runs(separator)
        runs += _runs(part)
    return Marked(str.join(_plain(separator), strings), runs)


def percent(text: str, values: Any) -> str:
    """`text % values`: marks kept where the fields are plain `%s`."""
    plain = _plain(text)
    items = list(values) if isinstance(values, tuple) else [values]
    fields = plain.split("%s")
    if "%" in "".join(fields) or len(fields) != len(items) + 1 or isinstance(values, Mapping):
        return covered(str.__mod__(plain, values), (text, values))
    parts: list[str] = []
    for field, item in zip(Marked(plain, _runs(text)).split("%s"), [*items, ""], strict=True):
        parts += (field, written(item))
    return join("", parts)


def braces(text: str, args: tuple[Any, ...], filled: str) -> str:
    """`filled`, which is `text.format(*args)`: marks kept where the fields are plain `{}`."""
    fields = Marked(_plain(text), _runs(text)).split("{}")
    if re.search("[{}]", "".join(fields)) or len(fields) != len(args) + 1:
        return covered(filled, (text, args))
    parts: list[str] = []
    for field, item in zip(fields, [*args, ""], strict=True):
        parts += (field, written(item))
    return join("", parts)


def written(value: Any) -> str:
    """What `{{ value }}` writes: the text of a list or an object is marked if anything in it is."""
    return value if isinstance(value, str) else covered(str(value), value)


def covered(text: str, sources: Any) -> str:
    """`text` made of `sources`: wholly marked, if any of them is and it bears no marks yet."""
    return text if isinstance(text, Marked) else smeared(text, sources)


def smeared(text: str, sources: Any) -> str:
    """`text` made of `sources`: wholly marked, if any of them is."""
    whose = marks(sources)
    return text if whose is None else mark(text, whose)


def covering(result: Any, sources: Any) -> Any:
    """`result` of an operation on `sources`, all text in it `covered`. Raises OverflowError
    for bytes made of contents."""
    if isinstance(result, str):
        return covered(result, sources)
    if isinstance(result, list | tuple):
        return type(result)(covering(item, sources) for item in result)
    if isinstance(result, bytes) and marks(sources) is not None:
        raise OverflowError("it makes bytes of a message")
    return result


def marks(value: Any) -> int | None:
    """A message that any text in `value` came from; UNKNOWN if that cannot be told; None if
    there is none."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, Marked):
            for _, whose in item._runs:
                if whose != OWN:
                    return whose
        elif isinstance(item, str | bytes | int | float | complex | slice) or item is None:
            continue
        elif isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
        elif isinstance(item, MethodType | BuiltinMethodType):
            waiting.append(item.__self__)
        elif not _holds_nothing(item):
            return UNKNOWN
    return None


def _holds_nothing(value: object) -> bool:
    """Whether an object cannot show a content when it is written out."""
    from jinja2 import Undefined

    return callable(value) or isinstance(value, Undefined | range | GeneratorType | ModuleType)


def _plain(text: str) -> str:
    return str.__getitem__(text, slice(None))


def _runs(text: str) -> Iterable[Run]:
    return text._runs if isinstance(text, Marked) else [(len(text), OWN)]
