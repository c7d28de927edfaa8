"""The end of a run, wherever it was watched: its adapter installed, answers asked, the report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openchat_local.finetune.run.beginning import drop_replaced
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.known import noted_place
from openchat_local.finetune.run.parent import PARENT
from openchat_local.finetune.run.report import write_report
from openchat_local.finetune.run.verdict import training_loss_rose, verdict
from openchat_local.models.errors import AdapterError, OpenChatError
from openchat_local.models.library.adapters import AdapterLibrary
from openchat_local.models.system.shell import command

ANSWER_SECONDS = 90.0
ANSWERING = "answering before and after"


class EnoughAnswers(Exception):
    """Raised by `Onlooker.phase`: the answers are not worth the wait."""


@dataclass(frozen=True, slots=True)
class Onlooker:
    """Who looks on: `say` gets sentences, `phase` what is done now and its share (0 to 1);
    within the block of `answering`, a KeyboardInterrupt ends the answers."""

    say: Callable[[str], None]
    phase: Callable[[str, float], None] = lambda name, share: None
    answering: Callable[[], AbstractContextManager[None]] = nullcontext


def finish(run: RunDirectory, home: Path, onlooker: Onlooker, *, replace: bool = False) -> str:
    """Install the adapter in `home` unless it got worse, in place of another's of its name only
    with `replace`; answer the prompts with it, write the report; what the losses say.

    Raises OpenChatError.
    """
    metrics = list(run.metrics())
    if training_loss_rose(metrics):
        report = write_report(run)
        onlooker.say(f"Look at it: {report}")
        name = run.settings()["name"]
        raise OpenChatError(
            f"{verdict(metrics)} The adapter was not installed: try a lower --learning-rate, or "
            f"install it anyway: {command('adapters', 'add', run.path, '--name', name)}"
        )
    adapter = install(run, home, replace=replace)
    drop_replaced(run)
    settings = run.settings()
    try:
        with onlooker.answering():
            settings["answers"] = _answers(settings, adapter, onlooker)
        run.write_settings(settings)
    except OpenChatError as error:
        onlooker.say(f"No answers in the report: {error}")
    except (EnoughAnswers, KeyboardInterrupt):
        onlooker.say("No answers in the report: stopped.")
    report = write_report(run)
    said = verdict(metrics)
    onlooker.say(said)
    flags = [*settings.get("chat_flags", ()), "--adapter", settings["name"]]
    onlooker.say(f"Chat with it: {command('chat', *flags)}")
    onlooker.say(f"Look at it: {report}")
    return said


def install(run: RunDirectory, home: Path, *, replace: bool = False) -> Path:
    """The installed adapter of a run. Raises AdapterError where another has its name."""
    settings, library = run.settings(), AdapterLibrary(home / "adapters")
    name = settings["name"]
    replace |= bool(settings.get("replace"))
    if name in library.names() and not replace:
        # Only the run's own adapter, from before it was resumed, is replaced without being asked.
        owner = library.facts(name).get("run")
        if owner is None or owner != settings.get("id"):
            other = command("adapters", "add", run.path, "--name", f"{name}-2")
            raise AdapterError(
                f"There is an adapter named {name} by now, which is not of this run: the new one "
                f"is in {run.path}; install it under another name, for example: {other}"
            )
    known = ("id", "settings", "classes", "base", "outcome", "versions", PARENT)
    facts = {"run" if key == "id" else key: settings[key] for key in known if key in settings}
    facts["run_folder"] = noted_place(run.path, home)
    peft = run.path / "adapter"
    adapter = library.add(
        name,
        run.path / "adapter.gguf",
        peft=peft if peft.is_dir() else None,
        facts=facts,
        replace=True,
    )
    return adapter.path


def _answers(settings: dict[str, Any], adapter: Path, onlooker: Onlooker) -> list[dict[str, Any]]:
    from openchat_local.finetune.run.answers import compare_answers
    from openchat_local.models.engine.local import LocalEngine
    from openchat_local.models.engine.protocol import EngineOptions

    options = EngineOptions(
        Path(settings["base"]["path"]), context=2048, template=settings["settings"]["template"]
    )
    conditions = list(dict.fromkeys(rule["condition"] for rule in settings["classes"]))
    onlooker.phase(ANSWERING, 0.0)
    with closing(LocalEngine(options)) as engine:
        return compare_answers(
            engine, adapter, settings["prompts"], conditions, seconds=ANSWER_SECONDS,
            on_progress=lambda done: onlooker.phase(ANSWERING, done),
        )  # fmt: skip
