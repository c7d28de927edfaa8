"""What several commands and the window say in the same form: counts, dates, downloads, JSON.

Sizes and durations are in `models/units.py`, since the rooms below say them as well; what a
terminal must not obey is made harmless in `app/printable.py`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from openchat_local.models.units import part_in_words, size_in_words, time_in_words

if TYPE_CHECKING:
    from openchat_local.models.hub.download import Progress

_BAR = 16  # cells


def counted(number: int, what: str) -> str:
    """ "1 problem", "1,204 problems"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def times(count: int) -> str:
    """How often, in words: "never", "once", "3 times"."""
    return {0: "never", 1: "once", 2: "twice"}.get(count, f"{count:,} times")


def local_time(seconds: float) -> str:
    """A Unix time by the clock here: "2026-01-31 09:05"."""
    from datetime import datetime

    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}"


def download_in_words(what: str, progress: Progress) -> str:
    """ "openchat-3.5:Q4_K_M ━━━━━━━┄┄┄┄┄┄┄┄┄  43%  1.88 of 4.37 GB  12.3 MB/s  3 min left"."""
    share = progress.done / progress.total if progress.total else 1.0
    full = int(share * _BAR)
    bar = "━" * full + "┄" * (_BAR - full)
    return f"{what} {bar} {share:4.0%}  {transfer_in_words(progress)}"


def transfer_in_words(progress: Progress) -> str:
    """How much of a download has come, how fast, and how long the rest will take."""
    text = part_in_words(progress.done, progress.total)
    if progress.speed:
        text += f"  {size_in_words(int(progress.speed))}/s"
    if progress.seconds_left is not None and progress.done < progress.total:
        text += f"  {time_in_words(progress.seconds_left)} left"
    return text


def write_json(value: object, *, indent: int | None = None) -> None:
    """Write `value` to standard output as JSON, on one line without `indent`."""
    import json

    # Escaped, no character of it can steer a terminal, and every encoding has it. Not click.echo,
    # which would cut escape sequences out of the text in a pipe.
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    escaped = sys.stdout.isatty() or encoding != "utf8"
    text = json.dumps(value, ensure_ascii=escaped, indent=indent)
    sys.stdout.write(f"{text}\n")
