"""What becomes of a run's adapter at its end."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from openchat_local.app.cli.finetune_display import Display
from openchat_local.app.cli.finetune_options import take_data_options
from openchat_local.app.cli.finetune_session import Presses, finish
from openchat_local.app.cli.main import main
from openchat_local.app.engine import installed_adapters
from openchat_local.finetune.run.beginning import begin_run
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.supervisor import Training
from openchat_local.finetune.run.verdict import training_loss_rose, verdict
from openchat_local.models.errors import AdapterError, OpenChatError
from support.adapters import write_random_adapter
from support.openchat_gguf import mistral_vocabulary, write_model


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "tiny.gguf"
    return write_model(
        path, mistral_vocabulary(), name="tiny", blocks=1, embedding=32, heads=2, kv_heads=1,
        feed_forward=64,
    )  # fmt: skip


@pytest.fixture
def old(tmp_path: Path, base: Path) -> RunDirectory:
    """A finished run named mine, in a folder whose name needs quotes."""
    return finished(tmp_path / "my runs" / "mine", base)


def finished(
    path: Path, base: Path, *, losses: tuple[float, ...] = (), **fields: Any
) -> RunDirectory:
    settings = {
        "name": "mine", "settings": {"template": None}, "classes": [], "prompts": [],
        "base": {"path": str(base)}, "outcome": {"ending": "finished"}, "versions": {},
    }  # fmt: skip
    run = begin_run(path, settings | fields, replace=True).run
    write_random_adapter(run.path / "adapter.gguf", base)
    for step, loss in enumerate(losses, 1):
        record = {"kind": "step", "step": step, "learning_rate": 1.0}
        run.add_metrics(record | {"result": {"loss": loss, "classes": {}}})
    return run


def end(run: RunDirectory, *, replace: bool = False) -> None:
    with Display() as display:
        finish(run, display, Presses(Training(run), display), replace=replace)


def owner() -> object:
    return installed_adapters().facts("mine")["run"]


RISEN = (3.7, 3.8, 20.0, 60.0, 80.0, 86.0, 86.0, 86.0)


def test_a_loss_that_rose_is_told_and_the_adapter_not_adopted(
    tmp_path: Path, base: Path, home: Path
) -> None:
    run = finished(tmp_path / "my runs" / "mine", base, losses=RISEN)
    with pytest.raises(OpenChatError, match=r"rose from 3\.75\d* to 86\.0000") as raised:
        end(run)
    assert installed_adapters().names() == []
    assert (run.path / "report.html").is_file()
    advice = re.search("install it anyway: openchat-local (.*)", str(raised.value))
    assert advice is not None
    assert main(shlex.split(advice[1])) == 0
    assert installed_adapters().names() == ["mine"]


@pytest.mark.parametrize(
    ("losses", "rose", "text"),
    [
        (RISEN, True, "this run got worse"),
        ((3.7, float("inf")), True, "this run got worse"),
        ((3.7, 3.8), False, "did not fall"),
        ((3.7, 3.5, 3.4, 3.2), False, "The training loss fell (3.7000 to 3.2000)"),
        ((), False, "nothing to tell"),
    ],
)
def test_without_held_out_data_the_training_loss_is_what_there_is(
    losses: tuple[float, ...], rose: bool, text: str
) -> None:
    metrics: list[dict[str, Any]] = [
        {"kind": "step", "step": step, "result": {"loss": loss}} for step, loss in enumerate(losses)
    ]
    assert training_loss_rose(metrics) is rose
    assert text in verdict(metrics)
    measured = [*metrics, {"kind": "validation", "step": 0, "loss": 3.0}]
    assert training_loss_rose(measured) is False  # the best weights are kept then


def test_an_adapter_of_the_same_name_that_came_meanwhile_is_not_replaced(
    old: RunDirectory, tmp_path: Path, base: Path, home: Path
) -> None:
    library = installed_adapters()
    library.add("mine", write_random_adapter(tmp_path / "other.gguf", base, seed=2))
    before = library.resolve("mine").read_bytes()
    with pytest.raises(AdapterError, match="not of this run") as raised:
        end(old)
    assert library.resolve("mine").read_bytes() == before
    advice = re.search("for example: openchat-local (.*)", str(raised.value))
    assert advice is not None
    assert main(shlex.split(advice[1])) == 0
    assert library.names() == ["mine", "mine-2"]
    end(old, replace=True)
    assert library.resolve("mine").read_bytes() != before


def test_the_adapter_of_the_run_itself_gives_way_when_it_goes_on(
    old: RunDirectory, home: Path
) -> None:
    end(old)
    write_random_adapter(old.path / "adapter.gguf", Path(old.settings()["base"]["path"]), seed=3)
    end(old)
    assert (
        installed_adapters().resolve("mine").read_bytes()
        == (old.path / "adapter.gguf").read_bytes()
    )
    assert owner() == old.settings()["id"]


def test_what_a_run_replaces_is_there_until_its_adapter_is_installed(
    old: RunDirectory, base: Path, home: Path
) -> None:
    end(old)
    first = old.settings()["id"]
    worse = finished(old.path, base, losses=RISEN, replace=True)
    with pytest.raises(OpenChatError):
        end(worse)
    (aside,) = old.path.glob("replaced-*")
    assert RunDirectory.open(aside).settings()["id"] == first == owner()
    better = finished(old.path, base, replace=True)
    end(better)
    assert not list(old.path.glob("replaced-*"))
    assert owner() == better.settings()["id"] != first


def test_a_run_can_be_gone_on_with_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = take_data_options({"validation": Path("held-out.jsonl"), "held_out": 0.05})
    assert options.validation == tmp_path / "held-out.jsonl"
