"""One value of a file, with its number."""

from __future__ import annotations

from typing import Any, NamedTuple

MAX_LINE = 16 * 2**20  # bytes; some forty times what any model here can attend to
MOST_IN_A_FILE = 10**9
"""Lines of one file in a folder: what comes first in the next is numbered from here on."""


class Line(NamedTuple):
    """Line `number` (from 1) of a file as the JSON `value` that it is.

    In the second file of a folder the numbers begin behind `MOST_IN_A_FILE`, in the third behind
    twice that; `Places` in `faults` puts them into words.
    """

    number: int
    value: Any

    def behind(self, number: int) -> Line:
        """The same, `number` lines later."""
        return Line(self.number + number, self.value)
