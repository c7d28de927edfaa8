"""What several commands say in the same form."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from openchat_local.app.wording import counted, download_in_words
from openchat_local.models.hub.download import Progress
from openchat_local.models.units import memory_in_words, size_in_words, time_in_words


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (size_in_words(98_300_000), "98.3 MB"),
        (size_in_words(4_370_000_000), "4.4 GB"),
        (memory_in_words(5 * 1024**3 + 2**29), "5.5 GiB"),
        (time_in_words(40.4), "40 s"),
        (time_in_words(179), "3 min"),
        (time_in_words(7500), "2 h 5 min"),
        (counted(1, "chat"), "1 chat"),
        (counted(0, "chat"), "0 chats"),
        (counted(1204, "chat"), "1,204 chats"),
        (
            download_in_words("a:Q4", Progress(10**9, 4 * 10**9, 10**9, 12_300_000.0, 244.0)),
            "a:Q4 ━━━━┄┄┄┄┄┄┄┄┄┄┄┄  25%  1.00 of 4.00 GB  12.3 MB/s  4 min left",
        ),
        (download_in_words("a", Progress(0, 0)), "a ━━━━━━━━━━━━━━━━ 100%  0.0 of 0.0 MB"),
    ],
)
def test_numbers_as_a_person_reads_them(said: str, expected: str) -> None:
    assert said == expected


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_json_in_a_pipe_loses_no_character(encoding: str) -> None:
    script = "from openchat_local.app.wording import write_json; write_json({'a': 'ü猫\\x1b'})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, timeout=60,
        env=os.environ | {"PYTHONIOENCODING": f"{encoding}:replace"},
    )  # fmt: skip
    assert json.loads(done.stdout.decode(encoding)) == {"a": "ü猫\x1b"}
