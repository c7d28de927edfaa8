"""In the child: a pattern, and texts line by line as JSON; for each the last match, as JSON."""

from __future__ import annotations

import json
import re
import signal
import sys


def main(pattern: str, seconds: int) -> None:
    """Serve until standard input ends. The system ends a search that takes longer than `seconds`,
    also when nobody is there any more who would."""
    wanted = re.compile(pattern)
    alarm = getattr(signal, "alarm", None)  # Windows has none
    for line in sys.stdin:
        if alarm is not None:
            alarm(seconds)
        last = None
        for last in wanted.finditer(json.loads(line)):  # noqa: B007 - the last one is wanted
            pass
        found = None
        if last is not None:
            group = last[1] if wanted.groups and last[1] is not None else last[0]
            found = [group, last.end()]
        if alarm is not None:
            alarm(0)
        print(json.dumps(found), flush=True)  # noqa: T201 - the answer


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
