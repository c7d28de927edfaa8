"""When something was, as a person says it."""

from __future__ import annotations

import time
from datetime import date

WEEK = 7


def heading(seconds: float, now: float) -> str:
    """The part of the list that a time belongs to: Today, Yesterday, the last seven days,
    a month of this year, or a month with its year. Times are seconds since the epoch."""
    then, today = _day(seconds), _day(now)
    days = (today - then).days
    if days <= 0:
        return "Today"
    if days == 1:
        return "Yesterday"
    if days < WEEK:
        return "This week"
    month = time.strftime("%B", time.localtime(seconds))
    return month if then.year == today.year else f"{month} {then.year}"


def moment(seconds: float, now: float, *, headed: bool = True) -> str:
    """A time in seven cells: the hour, the weekday, or the day. `headed` is one that stands
    under its `heading`, where the hour of yesterday is understood."""
    then, today = _day(seconds), _day(now)
    when = time.localtime(seconds)
    days = (today - then).days
    if days <= (1 if headed else 0):
        return time.strftime("%H:%M", when)
    if days < WEEK:
        return time.strftime("%a", when)
    return f"{when.tm_mday} {time.strftime('%b', when)}"


def day_and_time(seconds: float, now: float) -> str:
    """A time on its own: "Today 14:05", "12 Oct", "12 Oct 2024"."""
    under = heading(seconds, now)
    if under in ("Today", "Yesterday"):
        return f"{under} {moment(seconds, now)}"
    when = time.localtime(seconds)
    day = f"{when.tm_mday} {time.strftime('%b', when)}"
    return day if when.tm_year == time.localtime(now).tm_year else f"{day} {when.tm_year}"


def _day(seconds: float) -> date:
    """The day on this machine's calendar."""
    return date(*time.localtime(seconds)[:3])
