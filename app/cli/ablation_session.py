"""An ablation at the terminal: planned, trained, measured, shown; stopped by Ctrl-C."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.eval_options import finish
from openchat_local.app.cli.progress import Bar
from openchat_local.app.printable import printable

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.ablation.folder import AblationFolder
    from openchat_local.finetune.evaluation.ablation.outcome import Asking
    from openchat_local.finetune.evaluation.ablation.planning import Ablation
    from openchat_local.finetune.run.settings import RunSettings
    from openchat_local.models.engine.protocol import AdapterChoice, Engine

LLAMA_CPP = "llama.cpp"
_BY_ENGINE = 0.3  # what an engine does with a run, in trainings of one


def run_ablation(
    pattern: RunSettings,
    flags: Mapping[str, Any],
    asking: Asking | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Do what is not done yet, keep the result and show it. Raises OpenChatError."""
    from openchat_local.finetune.evaluation.ablation.folder import AblationFolder
    from openchat_local.finetune.evaluation.ablation.outcome import gather
    from openchat_local.finetune.evaluation.ablation.report import markdown, report
    from openchat_local.finetune.evaluation.keeping import KEPT, check_folder
    from openchat_local.finetune.run.directory import write_atomically

    work: Work | None = None
    try:
        with Bar("reading the data") as bar:
            planned = _planned(pattern, flags)
            place = _place(planned, out)
            check_folder(place)
            folder = AblationFolder(place / KEPT)
            notes = _prepared(folder, planned)
            evaluator = flags["evaluate_with"] or pattern.backend
            work = Work(folder, planned, evaluator, asking, bar)
            work.train(flags["parallel"])
            work.ask_engine()
            bar.begin("putting it together")
            result = report(gather(planned, folder, evaluator, asking), [*notes, *work.notes])
    except KeyboardInterrupt:
        if work is not None:
            click.echo(f"Stopped: {work.in_words()}", err=True)
        raise
    finish(result, place, as_json=as_json)
    write_atomically(place / "ladder.md", markdown(result).encode())
    if flags["keep"]:
        _install(folder, planned)


def _planned(pattern: RunSettings, flags: Mapping[str, Any]) -> Ablation:
    from openchat_local.app.cli.finetune_options import check_vocabulary
    from openchat_local.finetune.data.lines import refuse_unreadable
    from openchat_local.finetune.evaluation.ablation.planning import plan_ablation
    from openchat_local.models.gguf import read_gguf
    from openchat_local.models.template import choose_template
    from openchat_local.models.template.vocabulary import Vocabulary

    refuse_unreadable(pattern.data)
    base = read_gguf(pattern.base)
    check_vocabulary(base.path)  # a child that trains has no sentence for its death here
    template = choose_template(base, Vocabulary.open(base.path), pattern.template)
    return plan_ablation(
        pattern, base, template,
        rows=flags["rows"], seeds=flags["seeds"], ratios=flags["ratios"], shares=flags["shares"],
    )  # fmt: skip


def _place(planned: Ablation, out: Path | None) -> Path:
    from openchat_local.app.evaluations import result_folder

    if out is not None:
        return out.expanduser().absolute()
    common = planned.common
    return result_folder("ablation", common.pattern.data.stem, common.as_json())


def _prepared(folder: AblationFolder, planned: Ablation) -> list[str]:
    from openchat_local.finetune.evaluation.ablation.recipes import AblationError

    try:
        lost = folder.prepare(planned.common, planned.data, planned.template, planned.runs)
    except OSError as error:
        raise AblationError(
            f"The runs cannot be kept in {folder.path} ({error.strerror}): make room, or choose "
            "another folder with --out."
        ) from error
    note = (
        f"{lost:,} held-out conversations are not measured: they answer only after "
        f"{planned.common.context:,} tokens."
    )
    return [note] if lost else []


class Work:
    """What is left to do, and how far it is."""

    def __init__(
        self,
        folder: AblationFolder,
        planned: Ablation,
        evaluator: str,
        asking: Asking | None,
        bar: Bar,
    ) -> None:
        from openchat_local.finetune.evaluation.ablation.folder import run_name
        from openchat_local.finetune.evaluation.ablation.recipes import BASE

        self._folder = folder
        self._planned = planned
        self._evaluator = evaluator
        self._asking = asking
        self._bar = bar
        self._names = [BASE, *(run_name(recipe, seed) for recipe, seed in planned.runs)]
        self.notes: list[str] = []

    def train(self, parallel: int) -> None:
        """Train and measure every run that is not done. Raises AblationError."""
        from openchat_local.finetune.evaluation.ablation.lanes import Lanes
        from openchat_local.finetune.evaluation.ablation.worker import NOBODY

        by_engine = self._evaluator == LLAMA_CPP
        todo = [name for name in self._names if not self._is_done(name, trained_only=by_engine)]
        if not todo:
            return
        shares = dict.fromkeys(self._names, 1.0) | dict.fromkeys(todo, 0.0)
        self._bar.begin("training", len(shares) + self._for_engine())
        evaluator = NOBODY if by_engine else self._evaluator
        lanes = Lanes(self._folder, evaluator, todo, parallel=parallel)
        with _first_press(lanes.stop) as pressed:
            for standing in lanes.standings():
                if standing.note:
                    self.notes.append(standing.note)
                    continue
                shares[standing.name] = standing.done
                finished = sum(share == 1.0 for share in shares.values())
                step = f", step {standing.step} of {standing.steps}" if standing.steps else ""
                stopping = "stopping, " if pressed.is_set() else ""
                self._bar.show(
                    sum(shares.values()),
                    label=f"{stopping}{finished} of {len(shares)} done, {standing.name}{step}",
                )
        if pressed.is_set():
            raise KeyboardInterrupt

    def _is_done(self, name: str, *, trained_only: bool = False) -> bool:
        from openchat_local.finetune.evaluation.ablation.measuring import is_measured

        folder = self._folder
        if not folder.is_trained(name):
            return False
        if trained_only:
            return True
        return is_measured(folder.losses(name, self._evaluator).rows(), folder.held_out())

    def _for_engine(self) -> float:
        passes = (self._evaluator == LLAMA_CPP) + (self._asking is not None)
        return _BY_ENGINE * passes * len(self._names)

    def ask_engine(self) -> None:
        """What llama.cpp is to measure and to answer. Raises EngineError."""
        from openchat_local.app.evaluations import engines
        from openchat_local.finetune.evaluation.ablation.measuring import score
        from openchat_local.finetune.evaluation.ablation.prompted import ask, questions
        from openchat_local.finetune.evaluation.contender import contender

        if not self._for_engine():
            return
        data, pattern = self._planned.data, self._planned.common.pattern
        base = contender("base", pattern.base, template=pattern.template)
        self._bar.begin("measuring with llama.cpp", self._for_engine())
        done = 0.0

        def progress(label: str) -> Callable[[float], None]:
            return lambda share: self._bar.show(done + _BY_ENGINE * share, label=label)

        with engines([base]) as engine_of:
            engine: Engine = engine_of(base)
            for name in self._names:
                choice = self._choice(name)
                if self._evaluator == LLAMA_CPP:
                    with self._folder.losses(name, LLAMA_CPP) as kept:
                        stores = self._folder.held_out()
                        score(engine, choice, stores, kept, progress(f"measuring {name}"))
                    done += _BY_ENGINE
                if self._asking is not None:
                    asked = questions(data.held_out, self._asking.prompts)
                    with self._folder.answers(name) as kept:
                        ask(
                            engine, choice, asked, data.conditions, kept,
                            tokens=self._asking.tokens, progress=progress(f"{name} answers"),
                        )  # fmt: skip
                    done += _BY_ENGINE

    def _choice(self, name: str) -> AdapterChoice:
        from openchat_local.finetune.evaluation.ablation.recipes import BASE
        from openchat_local.models.engine.protocol import AdapterChoice

        return AdapterChoice(None if name == BASE else self._folder.adapter(name))

    def in_words(self) -> str:
        """What is kept."""
        from openchat_local.finetune.evaluation.ablation.recipes import BASE

        trained = [name for name in self._names if self._folder.is_trained(name) and name != BASE]
        halves = [
            f"{name} at step {steps}"
            for name in self._names
            if name != BASE and name not in trained and (steps := self._folder.run(name).steps_done)
        ]
        begun = f", and {', '.join(halves)}" if halves else ""
        return (
            f"{len(trained)} of {len(self._names) - 1} runs are kept as trained{begun}. "
            "The same command goes on from there."
        )


@contextmanager
def _first_press(stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Within the block the first Ctrl-C calls `stop` and sets the event; the second ends it."""
    pressed = threading.Event()

    def press(number: int, frame: Any) -> None:
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()
        stop()

    before = signal.signal(signal.SIGINT, press)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, before)


def _install(folder: AblationFolder, planned: Ablation) -> None:
    """Have the adapters of all runs for chat, under the data's name and theirs."""
    from openchat_local.app.engine import installed_adapters
    from openchat_local.finetune.evaluation.ablation.folder import run_name
    from openchat_local.models.library.adapters import name_for

    library = installed_adapters()
    stem = planned.common.pattern.data.stem
    names = []
    for recipe, seed in planned.runs:
        run = run_name(recipe, seed)
        name = name_for(f"{stem}-{run}")
        settings = folder.run(run).settings()
        known = ("id", "settings", "classes", "base", "outcome", "versions")
        facts = {"run" if key == "id" else key: settings[key] for key in known if key in settings}
        library.add(name, folder.adapter(run), facts=facts, replace=True)
        names.append(name)
    click.echo(f"Installed for chat: {printable(', '.join(names))}", err=True)
