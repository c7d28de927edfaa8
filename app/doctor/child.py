"""A question that is put to a child process: native code may hang or abort there."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

from openchat_local.models.system.child_process import how_it_ended, own_process_group


class Unanswered(Exception):
    """The child gave no answer; str() is how it ended."""


def ask_child(command: Sequence[str], seconds: float) -> dict[str, Any]:
    """The JSON object that `command` writes to its standard output within `seconds`.

    Raises Unanswered.
    """
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                **own_process_group(),
            )  # fmt: skip
        except OSError as error:
            raise Unanswered(str(error)) from error
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise Unanswered(f"no answer within {seconds:.0f} seconds") from None
        if process.returncode != 0:
            raise Unanswered(how_it_ended(process.returncode, errors))
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError:
        raise Unanswered("an answer that is not JSON") from None
    return answer


def python_code(code: str) -> list[str]:
    """A command that runs `code`; -P keeps modules of the working directory out of it."""
    return [sys.executable, "-P", "-c", code]
