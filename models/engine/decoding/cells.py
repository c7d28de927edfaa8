"""How many cells of a context are in use, where sequences share some of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Segment:
    """So many cells, one after another, that `holders` sequences have in common."""

    length: int
    holders: int = 1


class Cells:
    """Counts cells by the numbers of their sequences. Each is a list of segments from its first
    token on; those of several count once."""

    def __init__(self) -> None:
        self.used = 0
        self.of: dict[int, list[Segment]] = {}

    def grow(self, sequence: int, count: int) -> None:
        """So many more at its end."""
        segments = self.of.setdefault(sequence, [])
        if segments and segments[-1].holders == 1:
            segments[-1].length += count
        else:
            segments.append(Segment(count))
        self.used += count

    def share(self, source: int, target: int, length: int) -> None:
        """The first `length` of `source` are those of the empty `target` as well."""
        self._divide(source, length)
        shared, held = self.of.setdefault(target, []), 0
        for segment in self.of[source]:
            if held == length:
                break
            segment.holders += 1
            shared.append(segment)
            held += segment.length

    def cut(self, sequence: int, length: int) -> None:
        """Nothing after its first `length`."""
        self._divide(sequence, length)
        segments = self.of.get(sequence, [])
        held = sum(segment.length for segment in segments)
        while held > length:
            segment = segments.pop()
            held -= segment.length
            segment.holders -= 1
            if segment.holders == 0:
                self.used -= segment.length

    def held(self, sequences: Iterable[int], cut: tuple[int, int] | None = None) -> int:
        """By these together; and by another, once it is `cut` to so many of its first."""
        segments = {segment for one in sequences for segment in self.of.get(one, ())}
        held = sum(segment.length for segment in segments)
        number, left = cut or (0, 0)
        for segment in self.of.get(number, ()) if left else ():
            if segment not in segments:
                held += min(segment.length, left)
            left -= min(segment.length, left)
        return held

    def _divide(self, sequence: int, at: int) -> None:
        """See to it that one of its segments ends at token `at`."""
        start = 0
        for segment in self.of.get(sequence, ()):
            if start < at < start + segment.length:
                rest = Segment(start + segment.length - at, segment.holders)
                segment.length = at - start
                for segments in self.of.values():
                    if segment in segments:
                        segments.insert(segments.index(segment) + 1, rest)
                return
            start += segment.length
