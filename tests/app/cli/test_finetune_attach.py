"""`finetune attach` and `finetune runs`, of runs in the background that no process has in hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openchat_local.app.cli.main import main
from openchat_local.finetune.run.background import background_runs, take_over
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.ownership import remove_own
from openchat_local.finetune.run.registry import Entry, Registry


def noted(home: Path, name: str, *lines: dict[str, object], **last: str) -> RunDirectory:
    """A run that has told `lines`; keywords are its last word."""
    settings = {"name": name, "settings": {"base": "/base.gguf", "data": "/data.jsonl"}}
    run = RunDirectory.create(home / "runs" / name, settings | {"begun": 1.7e9})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (run.path / "events.jsonl").write_text(text + '{"type": "cut off by a')
    registry, entry = Registry(home), Entry(run.settings()["id"], name, f"runs/{name}", 1.7e9)
    (home / "training").mkdir(exist_ok=True)
    registry.add(entry)
    if last:
        registry.close(Entry(entry.id, name, entry.place, entry.begun, **last))
    return run


def test_runs_in_the_background_are_listed_and_looked_at_by_name(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noted(home, "cut", {"type": "Phase", "name": "reading the data", "fraction": None})
    noted(home, "full", problem="The disk is full: make room.")
    remove_own(noted(home, "gone", problem="Line 3 is no JSON: mend it.").path)
    noted(home, "done", {"type": "NoticeEvent", "step": 3, "text": "It helped."}, sentence="Good.")
    assert main(["finetune", "runs"]) == 0
    shown = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "(in the background: interrupted)" in shown["cut"]
    assert "(in the background: failed)" in shown["full"]
    assert "(in the background: ended)" in shown["done"]
    assert shown["gone:"] == "gone: Line 3 is no JSON: mend it."

    assert main(["finetune", "attach", "cut"]) == 1
    said = capsys.readouterr().err
    assert "Reading the data …" in said
    assert "openchat-local finetune --resume" in said
    assert main(["finetune", "attach", "full"]) == 1
    assert "The disk is full: make room." in capsys.readouterr().err
    assert main(["finetune", "attach", "done"]) == 0
    assert "It helped." in capsys.readouterr().err
    # What was seen is over; what can be resumed is not.
    assert {run.name for run in background_runs(home)} == {"cut", "gone"}
    assert main(["finetune", "attach", "other"]) == 1
    assert "No run named 'other' is in the background (" in capsys.readouterr().err


def test_what_was_removed_or_goes_on_in_a_terminal_is_in_the_background_no_more(home: Path) -> None:
    removed, replaced, resumed = (noted(home, name) for name in ("one", "two", "three"))
    removed.settings_path.unlink()
    replaced.write_settings(replaced.settings() | {"id": "another"})
    assert [run.name for run in background_runs(home)] == ["three"]
    take_over(resumed.path, home)
    assert background_runs(home) == []


def test_what_is_asked_of_a_run_is_a_file_beside_it(home: Path) -> None:
    run = noted(home, "mine")
    for flag, left in (("--pause", ["pause"]), ("--go-on", []), ("--stop", ["stop"])):
        assert main(["finetune", "attach", "mine", flag]) == 0
        assert [path.stem for path in run.path.glob("*.asked")] == left
