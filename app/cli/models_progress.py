"""How far it is, on stderr, where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def reading(label: str, size: int) -> Iterator[Callable[[int], None]]:
    """A bar over `size` bytes; what it gives takes the bytes done so far."""
    hidden = not sys.stderr.isatty()
    done = 0
    with click.progressbar(length=1000, label=label, hidden=hidden, file=sys.stderr) as bar:

        def show(count: int) -> None:
            nonlocal done
            steps = (count * 1000 // size if size else 1000) - done
            if steps > 0:
                done += steps
                bar.update(steps)

        yield show
