"""Known sets of questions: which there are, and which are installed."""

from __future__ import annotations

SUITES: tuple[str, ...] = ("agieval", "bbh", "truthfulqa")
