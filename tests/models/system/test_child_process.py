"""What children that compute get from their parent."""

from __future__ import annotations

import pytest

from openchat_local.models.system.child_process import sharing_cores

MINE = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MINE:
        monkeypatch.delenv(name, raising=False)


def test_threads_that_wait_for_each_other_soon_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING", "else")
    environment = sharing_cores(700)
    assert environment["GOMP_SPINCOUNT"] == "700"
    assert environment["KMP_BLOCKTIME"] == "1"
    assert environment["SOMETHING"] == "else"


@pytest.mark.parametrize("name", MINE)
def test_what_the_user_has_set_stands(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "mine")
    assert {key: value for key, value in sharing_cores(700).items() if key in MINE} == {
        name: "mine"
    }
