"""Who replies holds a lock that nobody dead can hold; training sees it, and waits a moment more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from openchat_local.finetune.run.giving_way import (
    FOLDER,
    TAIL_SECONDS,
    GivesWay,
    replying,
    somebody_replies,
)

REPLIES = """
import sys
from pathlib import Path
from openchat_local.finetune.run.giving_way import replying
assert "numpy" not in sys.modules
with replying(Path(sys.argv[1])):
    print("replying", flush=True)
    sys.stdin.read()
"""


def test_a_reply_of_another_process_is_seen_until_that_ends_or_dies(tmp_path: Path) -> None:
    assert not somebody_replies(tmp_path / "no home")
    with subprocess.Popen(
        [sys.executable, "-c", REPLIES, str(tmp_path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == b"replying\n"
        assert somebody_replies(tmp_path)
        other.kill()
    assert len(list((tmp_path / FOLDER).iterdir())) == 1
    assert not somebody_replies(tmp_path)
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_two_replies_of_one_process_are_two(tmp_path: Path) -> None:
    with replying(tmp_path):
        with replying(tmp_path):
            assert somebody_replies(tmp_path)
        assert somebody_replies(tmp_path)
    assert not somebody_replies(tmp_path)


def test_a_home_that_cannot_be_written_keeps_no_reply_from_coming(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file")
    with replying(tmp_path), replying(tmp_path / "not there"):
        assert not somebody_replies(tmp_path)
    assert not (tmp_path / "not there").exists()


def test_replies_that_follow_each_other_are_waited_for_together(tmp_path: Path) -> None:
    now = 0.0
    gives_way = GivesWay(tmp_path, lambda: now)
    assert not gives_way()
    with replying(tmp_path):
        assert gives_way()
    now += TAIL_SECONDS / 2
    assert gives_way()
    with replying(tmp_path):
        assert gives_way()
    now += TAIL_SECONDS * 0.9
    assert gives_way()
    now += TAIL_SECONDS
    assert not gives_way()
