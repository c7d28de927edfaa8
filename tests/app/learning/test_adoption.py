"""Adopted and brought back: exactly, whoever dies in between and whoever else writes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openchat_local.app.learning.adoption import (
    AdoptionError,
    adopt_setting,
    journal_path,
    read_journal,
    take_back,
)
from openchat_local.app.learning.versions import in_use
from openchat_local.app.settings.layers import SettingsError
from openchat_local.models.library.adapters import AdapterLibrary
from openchat_local.models.system.file_lock import try_lock


@pytest.fixture
def library(home: Path, settings_file: Path, adapter: Path) -> AdapterLibrary:
    library = AdapterLibrary(home / "adapters")
    for name in ("first", "second", "third"):
        library.add(name, adapter)
    return library


def test_the_file_is_byte_for_byte_what_it_was(
    library: AdapterLibrary, settings_file: Path
) -> None:
    before = settings_file.read_bytes()
    assert in_use() is None
    assert adopt_setting("first").before == "none"
    assert in_use() == "first"
    between = settings_file.read_bytes()
    assert b"# the small one" in between
    assert b"# cool" in between
    change = adopt_setting("second")
    assert (change.before, change.now) == ("first", "second")
    assert adopt_setting("second").before == "second"  # Enter twice: nothing is journalled
    assert (take_back().now, in_use()) == ("first", "first")
    assert settings_file.read_bytes() == between
    assert (take_back().now, in_use()) == ("none", None)
    assert settings_file.read_bytes() == before
    with pytest.raises(AdoptionError, match="nothing to go back to"):
        take_back()
    assert settings_file.read_bytes() == before
    assert oct(journal_path().stat().st_mode)[-2:] == "00" or os.name == "nt"


def test_where_there_was_no_file_there_is_none_again(home: Path) -> None:
    adopt_setting("first")
    assert (home / "config.toml").read_text() == 'adapter = "first"\n'
    take_back()
    assert not (home / "config.toml").exists()


def test_what_was_written_since_stays(library: AdapterLibrary, settings_file: Path) -> None:
    adopt_setting("first")
    settings_file.write_bytes(settings_file.read_bytes() + b"[tui]\ntheme = 'nord'\n")
    take_back()
    text = settings_file.read_text()
    assert "nord" in text
    assert "# cool" in text
    assert "adapter" not in text


def test_one_that_was_named_by_hand_gives_way_to_the_one_adopted_last(
    library: AdapterLibrary, settings_file: Path
) -> None:
    adopt_setting("first")
    settings_file.write_text(settings_file.read_text().replace("first", "third"))
    assert (take_back().now, in_use()) == ("first", "first")
    assert (take_back().now, in_use()) == ("none", None)


def test_what_was_deleted_since_is_passed_over(
    library: AdapterLibrary, settings_file: Path
) -> None:
    before = settings_file.read_bytes()
    for name in ("first", "second", "third"):
        adopt_setting(name)
    library.remove("second")
    change = take_back()
    assert (change.now, change.skipped) == ("first", ("second",))
    library.remove("first")
    adopt_setting("third")
    change = take_back()
    assert (change.now, change.skipped) == ("none", ("first",))
    assert settings_file.read_bytes() == before


def test_a_file_that_is_no_toml_is_left_alone(library: AdapterLibrary, settings_file: Path) -> None:
    settings_file.write_text("model = \n")
    with pytest.raises(SettingsError, match="not valid TOML"):
        adopt_setting("first")
    assert settings_file.read_text() == "model = \n"
    assert read_journal().stack == ()


def test_a_damaged_journal_is_said_and_kept(library: AdapterLibrary) -> None:
    adopt_setting("first")
    journal_path().write_text("{")
    with pytest.raises(AdoptionError, match="delete it"):
        take_back()
    assert journal_path().read_text() == "{"


def test_another_window_is_waited_for(
    library: AdapterLibrary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openchat_local.app.learning.adoption._WAIT_SECONDS", 0.0)
    adopt_setting("first")
    lock = try_lock(journal_path().with_name("adopted.lock"))
    assert lock is not None
    with pytest.raises(AdoptionError, match="Another window"):
        adopt_setting("second")
    os.close(lock)
    adopt_setting("second")


def killed_at(replacement: int, *, after: bool, call: Callable[[], object]) -> bool:
    """Do `call` in a process that dies before or after its so manieth file takes its place;
    whether it did."""
    child = os.fork()
    if child == 0:
        calls, real = [0], os.replace

        def replace(source: Path, target: Path) -> None:
            calls[0] += 1
            if after:
                real(source, target)
            if calls[0] == replacement:
                os._exit(9)
            if not after:
                real(source, target)

        os.replace = replace  # type: ignore[assignment]
        try:
            call()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_step_leaves_what_can_be_taken_back(
    library: AdapterLibrary, settings_file: Path, after: bool
) -> None:
    before = settings_file.read_bytes()
    for call in (lambda: adopt_setting("second"), take_back):
        for step in (1, 2, 3):
            adopt_setting("first")
            adopted = settings_file.read_bytes()
            died = killed_at(step, after=after, call=call)
            assert died == (step < 3)
            used = in_use()
            assert used in (None, "first", "second")
            assert json.loads(journal_path().read_bytes())["stack"] is not None
            if used == "second":
                assert take_back().now == "first"
                assert settings_file.read_bytes() == adopted
                used = "first"
            if used == "first":
                assert take_back().now == "none"
            assert settings_file.read_bytes() == before
            with pytest.raises(AdoptionError):
                take_back()


STEPS = st.lists(st.sampled_from(["first", "second", "third", "none", "back"]), max_size=8)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
def test_any_row_of_adoptions_is_a_stack(
    library: AdapterLibrary, settings_file: Path, steps: list[str]
) -> None:
    files = [settings_file.read_bytes()]
    for step in steps:
        if step != "back":
            if adopt_setting(step).before != step:
                files.append(settings_file.read_bytes())
        elif len(files) > 1:
            take_back()
            files.pop()
        assert settings_file.read_bytes() == files[-1]
    while len(files) > 1:
        take_back()
        files.pop()
        assert settings_file.read_bytes() == files[-1]
