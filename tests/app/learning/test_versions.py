"""The lineage, adopting with a second yes, scale, and deleting nothing that is another's."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.engine import engine_options
from openchat_local.app.learning.feedback import Lesson, LessonTurn
from openchat_local.app.learning.findings import ClassLosses, Compared, Findings
from openchat_local.app.learning.lineage import note_chats
from openchat_local.app.learning.rows_file import ROWS_IN_RUN
from openchat_local.app.learning.versions import (
    ScoredWorse,
    StillInUse,
    VersionError,
    Votes,
    adopt,
    delete,
    in_use,
    overruled,
    roll_back,
    set_scale,
    to_delete,
    tree,
    version,
    versions,
)
from openchat_local.app.settings.model import load_settings
from openchat_local.finetune.evaluation.statistics import Interval
from openchat_local.finetune.run.directory import RunError
from openchat_local.models.errors import AdapterError
from openchat_local.models.library.adapters import AdapterLibrary
from openchat_local.models.system.file_lock import try_lock
from support.versions import install


@pytest.fixture
def library(home: Path, settings_file: Path) -> AdapterLibrary:
    return AdapterLibrary(home / "adapters")


def scored(library: AdapterLibrary, name: str, change: float) -> Findings:
    interval = Interval(change - 0.05, change + 0.05)
    losses = ClassLosses("expert", "Expert", Compared(20, 300, 2.0, 2.0 + change, interval))
    found = Findings(name, 1.0, "tiny", 0.0, None, (losses,), None)
    library.note(name, {"findings": found.as_json()})
    return found


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`; locks say nothing."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "lock" not in path.name
    }


def test_a_version_knows_where_it_is_from(
    home: Path, library: AdapterLibrary, adapter: Path
) -> None:
    install(home, "one", adapter, counts={"expert": 12, "middle": 5}, begun=1.0)
    install(home, "two", adapter, parent="one", begun=2.0)
    found = scored(library, "two", -0.2)
    adopt("two")
    one, two = versions({"two": Votes(7, 3, 1)})
    assert (one.name, one.origin, one.parent, one.in_use) == ("one", None, None, False)
    assert dict(one.trained_on.counts) == {"expert": 12, "middle": 5}
    assert (one.trained_at, one.base) == (1.0, "starter")
    assert (two.origin, two.parent, two.in_use) == ("one", "one", True)
    assert two.findings == found
    assert (two.votes.count, one.votes.count) == (11, 0)
    assert two.adopted_at is not None
    assert two.report == home / "runs" / "two" / "report.html"


def test_it_knows_of_how_many_chats_it_was_made_and_from_when_to_when(
    home: Path, library: AdapterLibrary, adapter: Path
) -> None:
    store = ChatStore.open(home)
    before = time.time()
    chats = [store.new_chat(title=str(number)) for number in range(2)]
    turns = (LessonTurn("a", "user", "Hi", 0.0), LessonTurn("b", "assistant", "Hello", None))
    found = [
        Lesson(chat.id, "", "", turns, "expert", "Expert", 1.0, {}) for chat in (*chats, chats[0])
    ]
    store.close()
    install(home, "mine", adapter)
    note_chats(home / "runs" / "mine", found)
    on = version("mine").trained_on
    assert on.chats == 2
    assert on.since is not None
    assert on.until is not None
    assert before - 1 <= on.since <= on.until <= time.time() + 1
    note_chats(home / "runs" / "mine", [replace(found[0], chat_id="of another program")])
    assert (version("mine").trained_on.chats, version("mine").trained_on.since) == (1, None)


def test_the_tree(home: Path, library: AdapterLibrary, adapter: Path) -> None:
    install(home, "b", adapter, begun=1.0)
    install(home, "d", adapter, parent="b", begun=4.0)
    install(home, "a", adapter, parent="b", begun=3.0)
    install(home, "c", adapter, parent="a", begun=5.0)
    install(home, "z", adapter, begun=9.0)
    broken = home / "adapters" / "broken"
    broken.mkdir()
    (broken / "adapter.gguf").write_bytes(b"GGUF")
    drawn = [f"{branch.stem}{branch.label}" for branch in tree(versions())]
    assert drawn == [
        "starter",
        "├─ b",
        "│  ├─ a",
        "│  │  └─ c",
        "│  └─ d",
        "└─ z",
        "a model that is not named",
        "└─ broken",
    ]
    library.remove("a")  # its child stays, and says whose it was
    assert (version("c").origin, version("c").parent) == ("a", None)
    assert "├─ c" in [f"{branch.stem}{branch.label}" for branch in tree(versions())]


def test_one_that_took_its_parents_name_is_not_its_own_child(
    home: Path, library: AdapterLibrary, adapter: Path
) -> None:
    install(home, "mine", adapter)
    facts = dict(library.facts("mine"))
    facts["parent"] = {"name": "mine", "run": facts["run"]}
    library.add("mine", adapter, facts=facts | {"run": "another"}, replace=True)
    assert (version("mine").origin, version("mine").parent) == ("mine", None)
    library.note("mine", {"run": facts["run"]})  # no run writes this, but a file may say it
    assert [branch.label for branch in tree(versions())] == ["starter", "mine"]


def test_one_that_scored_worse_needs_a_second_yes(
    library: AdapterLibrary, adapter: Path, settings_file: Path
) -> None:
    before = settings_file.read_bytes()
    library.add("mine", adapter)
    scored(library, "mine", 0.2)
    with pytest.raises(ScoredWorse, match="scored worse"):
        adopt("mine")
    assert settings_file.read_bytes() == before
    adopt("mine", even_if_worse=True)
    assert in_use() == "mine"
    roll_back()
    assert settings_file.read_bytes() == before


def test_what_cannot_answer_is_not_adopted(
    library: AdapterLibrary, settings_file: Path, adapter_of_another: Path
) -> None:
    before = settings_file.read_bytes()
    library.add("other", adapter_of_another)
    for name in ("other", "gone", "../mine"):
        with pytest.raises(AdapterError):
            adopt(name)
    assert settings_file.read_bytes() == before


def test_the_environment_beats_what_is_adopted_which_is_said(
    library: AdapterLibrary, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add("mine", adapter)
    adopt("mine")
    assert overruled() is None
    monkeypatch.setenv("OPENCHAT_LOCAL_ADAPTER", "none")
    assert "set by the environment" in str(overruled())


def test_a_scale_is_kept_and_goes_to_the_engine(library: AdapterLibrary, adapter: Path) -> None:
    library.add("mine", adapter, facts={"run": "x"})
    set_scale("mine", 0.5)
    assert engine_options(load_settings({"adapter": "mine"})).adapter_scale == 0.5
    assert version("mine").scale == 0.5
    for wrong in (0.0, -1.0, 9.0, float("nan"), float("inf")):
        with pytest.raises(VersionError, match=r"from 0\.05 to 4"):
            set_scale("mine", wrong)
    set_scale("mine", 1.0)
    assert dict(library.facts("mine")) == {"run": "x"}


def test_a_card_whose_writing_was_killed_does_not_stand_in_the_way(
    library: AdapterLibrary, adapter: Path
) -> None:
    library.add("mine", adapter)
    (library.folder / "mine" / ".card.json.4711.part").write_text("{")
    delete("mine")
    assert library.names() == []


# Deleting


def with_rows(home: Path, name: str, adapter: Path, data: Path | None = None) -> Path:
    """The rows of an adapter that was made of chats."""
    path = home / "runs" / name / ROWS_IN_RUN
    install(home, name, adapter, data=data or path)
    path.write_text("{}\n")
    return path


def test_all_of_it_goes_and_nothing_else(
    home: Path, library: AdapterLibrary, adapter: Path, tmp_path: Path
) -> None:
    own = tmp_path / "mydata.jsonl"  # what it was trained on beside chats
    own.write_text("{}\n")
    with_rows(home, "other", adapter)
    before = everything(tmp_path)
    rows = with_rows(home, "mine", adapter, own)
    (home / "runs" / "mine" / "my notes.txt").write_text("keep")
    what = to_delete("mine")
    assert (what.run, what.rows, what.in_use) == (home / "runs" / "mine", rows, False)
    assert "copies of your chats" in what.question
    done = delete("mine")
    assert done.freed > 0
    assert [path.name for path in done.left] == ["my notes.txt"]
    after = everything(tmp_path)
    assert after.pop("home/runs/mine/my notes.txt") == b"keep"
    assert after == before


def test_without_its_data_the_run_stays(home: Path, library: AdapterLibrary, adapter: Path) -> None:
    rows = with_rows(home, "mine", adapter)
    assert to_delete("mine", with_data=False).rows is None
    delete("mine", with_data=False)
    assert library.names() == []
    assert rows.exists()
    assert (home / "runs" / "mine" / "run.json").exists()


def test_the_one_that_answers_is_deleted_only_where_that_is_said(
    home: Path, library: AdapterLibrary, adapter: Path
) -> None:
    install(home, "mine", adapter)
    install(home, "child", adapter, parent="mine")
    adopt("mine")
    what = to_delete("mine")
    assert "they will go without" in what.question
    assert "What was trained from it stays: child." in what.question
    with pytest.raises(StillInUse, match="answers in new chats now"):
        delete("mine")
    assert library.names() == ["child", "mine"]
    delete("mine", even_in_use=True)
    assert (library.names(), in_use()) == (["child"], None)
    assert roll_back().skipped == ("mine",)  # to what was before it


def test_a_run_that_is_being_trained_is_left_alone(
    home: Path, library: AdapterLibrary, adapter: Path
) -> None:
    rows = with_rows(home, "mine", adapter)
    lock = try_lock(home / "runs" / "mine" / "lock")
    with pytest.raises(RunError, match="A process trains the run"):
        delete("mine")
    assert rows.exists()
    assert library.names() == ["mine"]
    assert lock is not None


def test_a_kill_in_the_middle_of_deleting_leaves_what_can_be_deleted_again(
    home: Path, library: AdapterLibrary, adapter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with_rows(home, "mine", adapter)
    with monkeypatch.context() as patch:
        patch.setattr("openchat_local.finetune.run.ownership.os.walk", die)
        with pytest.raises(Killed):
            delete("mine")
    assert to_delete("mine").run is not None
    with monkeypatch.context() as patch:
        patch.setattr(AdapterLibrary, "remove", die)
        with pytest.raises(Killed):
            delete("mine")
    assert library.names() == ["mine"]
    assert to_delete("mine").run is None  # it has gone already
    delete("mine")
    assert library.names() == []
    assert not (home / "runs" / "mine").exists()


def test_a_folder_with_other_things_is_refused_before_anything_goes(
    home: Path, library: AdapterLibrary, adapter: Path
) -> None:
    with_rows(home, "mine", adapter)
    (library.folder / "mine" / "notes.txt").write_text("keep")
    before = everything(home)
    with pytest.raises(AdapterError, match=r"notes\.txt"):
        delete("mine")
    assert everything(home) == before


def test_damaged_cards_and_journals_are_no_end(
    home: Path, library: AdapterLibrary, adapter: Path
) -> None:
    install(home, "mine", adapter)
    for card in ("", "[]", '{"parent": 3, "scale": "x", "findings": [1]}', '{"settings": 5}'):
        (library.folder / "mine" / "card.json").write_text(card)
        assert version("mine").scale == 1.0
        assert json.dumps(version("mine").trained_on.counts)
