"""Bytes and seconds as a person reads them."""

from __future__ import annotations


def size_in_words(count: int) -> str:
    """Bytes of a file, as file managers and the hub count them: "98.3 MB", "4.4 GB"."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def part_in_words(done: int, total: int) -> str:
    """How much of a file is there: "1.88 of 4.37 GB", "2.0 of 5.0 MB"."""
    if total >= 1e9:
        return f"{done / 1e9:.2f} of {total / 1e9:.2f} GB"
    return f"{done / 1e6:.1f} of {total / 1e6:.1f} MB"


def memory_in_words(count: float) -> str:
    """Bytes of memory or of a disk's free room, in powers of two: "4.1 GiB"."""
    return f"{count / 1024**3:.1f} GiB"


def time_in_words(seconds: float) -> str:
    """ "40 s", "3 min", "2 h 5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
