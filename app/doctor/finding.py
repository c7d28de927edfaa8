"""What a check found, and the frame that every check runs in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from openchat_local.models.errors import OpenChatError

Status = Literal["ok", "note", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence about `about`. `advice` is what to do, "" where nothing is to be done;
    `facts` are the same in numbers, as JSON can hold them."""

    about: str
    status: Status
    text: str
    advice: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


Check = Callable[[], Iterable[Finding]]


def examined(about: str, check: Check) -> Iterator[Finding]:
    """The findings of `check`; one that breaks is a problem of its own, and stops no other."""
    try:
        yield from check()
    except OpenChatError as error:
        yield Finding(about, "problem", str(error))
    except OSError as error:
        reason = f"{error.filename or 'The system'}: {error.strerror or error}."
        yield Finding(about, "problem", reason, "Give yourself the right to read it.")
    except Exception as error:  # noqa: BLE001 - a broken part is what is being looked for
        yield Finding(
            about,
            "problem",
            f"This could not be examined ({type(error).__name__}: {error}).",
            "Correct what the message names; if it names nothing, please report it.",
        )
