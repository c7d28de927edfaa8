"""Numbers as data give them: JSON's, or text that is one."""

from __future__ import annotations

import math
import re
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d{1,300}(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")


def as_number(value: Any) -> float | None:
    """The finite number that `value` is, or that its text writes; None where it is none.

    "1,234" and "4,5" are none: whether the comma parts thousands or decimals, only whoever wrote
    them knows. Nor are true and false.
    """
    if isinstance(value, str):
        text = value.strip()
        number = float(text) if _NUMBER.fullmatch(text) else math.nan
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    else:
        try:
            number = float(value)
        except OverflowError:
            return None
    return number if math.isfinite(number) else None
