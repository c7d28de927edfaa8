"""A run from its settings to its adapter: prepare, plan, train, export, show."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from openchat_local.finetune.adapter.lora import lora_shapes
from openchat_local.finetune.backends.choose import Backend, choose_backend
from openchat_local.finetune.backends.group import Group
from openchat_local.finetune.backends.hugging_face import HuggingFaceWeights
from openchat_local.finetune.backends.model_file import TensorReader, Weights
from openchat_local.finetune.backends.shape import read_shape
from openchat_local.finetune.backends.trainer import Trainer
from openchat_local.finetune.data.epoch import efficiency, plan_epoch
from openchat_local.finetune.data.prepare import Prepared, examine, looks_faulty, prepare
from openchat_local.finetune.data.training import PlannedData
from openchat_local.finetune.run.answers import prompts_to_ask
from openchat_local.finetune.run.directory import TRYING, RunDirectory, RunError
from openchat_local.finetune.run.events import (
    DataRead,
    JobEvent,
    NoticeEvent,
    Outcome,
    Phase,
    Ready,
)
from openchat_local.finetune.run.export import adapter_card, write_adapter
from openchat_local.finetune.run.extension import EXTENDED, schedule_of
from openchat_local.finetune.run.loop import Loop, LoopSettings, OutOfMemory
from openchat_local.finetune.run.measuring import measure
from openchat_local.finetune.run.parent import PARENT, Parent, read_parent
from openchat_local.finetune.run.plan import Plan, make_plan, max_length, plan_from_json, tiny_notes
from openchat_local.finetune.run.run_state import WRITING
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.library import hold
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import Vocabulary

PROMPTS = 10  # answered before and after, for the report


Tell = Callable[[JobEvent], None]

MakeTrainer = Callable[[Backend, GGUFFile, RunSettings, Plan], Trainer]


def new_trainer(backend: Backend, base: GGUFFile, settings: RunSettings, plan: Plan) -> Trainer:
    """A trainer for a run with these settings, which loads the base."""
    return backend.make(
        base,
        settings.lora,
        settings.optimizer,
        seed=settings.seed,
        checkpointing=plan.checkpointing,
        quantised=plan.quantised,
        weights=_weights(settings, base),
    )


def _weights(settings: RunSettings, base: GGUFFile) -> Weights | None:
    folder = settings.weights
    return None if folder is None else HuggingFaceWeights(folder, base)


class Job:
    """One run in its directory. Every method may be called again after a kill."""

    def __init__(
        self,
        run: RunDirectory,
        tell: Tell,
        wants_to_stop: Callable[[], bool],
        make: MakeTrainer = new_trainer,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock` counts the seconds that the process does not stand still."""
        self._run = run
        self._clock = clock
        self._make = make
        self._tell = tell
        self._wants_to_stop = wants_to_stop
        self.settings = RunSettings.from_json(run.stored()["settings"])

    def do(self, *, dry: bool = False) -> Outcome | None:
        """Train and export; with `dry`, only prepare and plan. Raises OpenChatError."""
        self._tell(Phase("reading the model"))
        settings = self.settings
        base = read_gguf(self.settings.base)
        hold(base.path)  # until this process ends: nobody removes the model meanwhile
        self._check_same(base)
        # Before a backend is imported, which takes seconds: what is wrong with a small file.
        if looks_faulty(settings.data, settings.data_options):
            examine(settings.data, settings.data_options, self._template(base))
        backend = choose_backend(
            settings.backend, settings.device, settings.precision, nf4=settings.nf4
        )
        # Before what may take minutes: a model or an adapter that cannot be trained.
        read_shape(TensorReader(base, _weights(settings, base)))
        lora_shapes(base, settings.lora)
        group = backend.group
        parent = self._parent(base, group)
        template = self._template(base)
        prepared = self._prepare(base, template)
        self._tell(DataRead(prepared.policy.classes, prepared.report))
        stored = group.from_first(self._run.settings().get("plan"))
        # A resumed run keeps its plan, or its losses would be others.
        plan = plan_from_json(stored) if stored else self._plan(base, prepared, backend)
        plan = plan_from_json(group.from_first(asdict(plan)))
        trainer = self._trainer(base, backend, plan)
        if parent is not None:
            trainer.set_lora(parent.weights)
            self._update(**{PARENT: parent.facts})
        if not stored:
            plan = self._measured(plan, prepared, trainer, group)
        self._note_plan(prepared, plan, base, backend, trainer, template)
        if dry:
            return None
        loop = Loop(
            self._run,
            trainer,
            PlannedData(prepared.train, prepared.validation, plan.layout, self.settings.seed),
            self._loop_settings(plan, group.from_first(self._run.settings().get(EXTENDED))),
            self._tell,
            self._wants_to_stop,
            group,
            self._clock,
        )
        outcome = loop.fit()
        self._export(trainer, base, template, prepared)
        self._update(
            outcome={"ending": outcome.ending, **asdict(outcome.progress)},
        )
        return outcome

    # The parts, in order

    def _check_same(self, base: GGUFFile) -> None:
        """Raise RunError where the run began with another model than is there now."""
        before = (self._run.settings().get("base") or {}).get("fingerprint")
        if before not in (None, base.fingerprint):
            raise RunError(
                f"{base.path} is not the model that this run began with: put that back, or start "
                "a new run."
            )

    def _parent(self, base: GGUFFile, group: Group) -> Parent | None:
        """The adapter that training begins with, None where there is none, or a checkpoint has
        all of it."""
        path = self.settings.start_from
        if path is None or group.from_first(self._run.checkpoints.latest() is not None):
            return None
        return read_parent(path, base, self.settings.lora)

    def _prepare(self, base: GGUFFile, template: Template) -> Prepared:
        folder = self._run.path / "data"

        def progress(done: int, total: int) -> None:
            if done == total or done % 256 == 0:
                self._tell(Phase("reading the data", done / max(1, total)))

        prepared = prepare(
            self.settings.data,
            self.settings.data_options,
            template,
            max_length(self.settings, base),
            folder,
            progress,
        )
        before = self._run.settings().get("data")
        if before is not None and before["digests"] != dict(prepared.report.digests):
            raise RunError(
                f"{self.settings.data} is not what this run began with: put it back as it was, "
                "or start a new run."
            )
        return prepared

    def _plan(self, base: GGUFFile, prepared: Prepared, backend: Backend) -> Plan:
        if tried := self._run.settings().get(TRYING):
            return plan_from_json(tried)  # a process that died for it has halved it
        return make_plan(
            self.settings,
            base,
            prepared.train,
            prepared.validation,
            backend=backend,
            available=backend.free_memory(),
        )

    def _trainer(self, base: GGUFFile, backend: Backend, plan: Plan) -> Trainer:
        self._tell(Phase("loading the base model"))
        try:
            return self._make(backend, base, self.settings, plan)
        except MemoryError as error:
            other = "" if plan.quantised else "keep it --quantised, or "
            raise OutOfMemory(
                f"{base.name} does not fit into memory ({error}): {other}close other programs, or "
                "choose a smaller model."
            ) from None

    def _measured(self, plan: Plan, prepared: Prepared, trainer: Trainer, group: Group) -> Plan:
        """The plan as it turns out, with smaller batches where a prediction was too hopeful."""
        while True:
            # Metal ends the process where memory runs out: the next one begins with less.
            self._update(**{TRYING: asdict(plan)})
            self._tell(Phase("trying the longest batch"))
            try:
                return measure(
                    plan, self.settings, prepared.train, prepared.validation, trainer, group,
                    self._clock,
                )  # fmt: skip
            except MemoryError as error:
                smaller = plan.halved()
                if smaller is None:
                    raise OutOfMemory(
                        f"Not even one row fits into memory ({error}): train with --checkpointing, "
                        "a smaller --max-length, or on a smaller model."
                    ) from None
                plan = smaller
                self._tell(
                    NoticeEvent(
                        0,
                        "Out of memory in trying the longest batch: batches are halved to "
                        f"{plan.layout.tokens_per_batch:,} positions.",
                    )
                )

    def _template(self, base: GGUFFile) -> Template:
        return choose_template(base, Vocabulary.open(base.path), self.settings.template)

    def _note_plan(
        self,
        prepared: Prepared,
        plan: Plan,
        base: GGUFFile,
        backend: Backend,
        trainer: Trainer,
        template: Template,
    ) -> None:
        packages = ("openchat-local", "numpy", "llama-cpp-python")
        self._update(
            classes=prepared.policy.as_json(),
            data=prepared.report.as_json(),
            plan=asdict(plan),
            **{TRYING: None},
            backend=trainer.describe(),
            template=template.name,
            base={"path": str(base.path), "name": base.name, "fingerprint": base.fingerprint},
            prompts=[asdict(asked) for asked in prompts_to_ask(self.settings, prepared, PROMPTS)],
            versions={name: version(name) for name in packages}
            | {"python": platform.python_version()},
        )
        notes = [*tiny_notes(plan), *trainer.describe().get("notes", ())]
        if began_with := self._run.settings().get(PARENT):
            notes.append(f"Training began with the adapter {began_with['name']}.")
        if self.settings.weights is not None:
            notes.append(
                f"Trains on the weights in {self.settings.weights}; chat runs {base.path.name}, "
                "which is near them, not equal."
            )
        if self.settings.max_length > base.context_length:
            notes.append(
                f"--max-length {self.settings.max_length:,} is more than the "
                f"{base.context_length:,} tokens that {base.name} was made for: conversations are "
                "cut there."
            )
        mixed = self._mixed(prepared, plan)
        if mixed < 1 and not prepared.report.plain_sft:
            notes.append(
                f"Only {mixed:.0%} of the steps hold every class: a larger --tokens-per-step "
                "mixes them better."
            )
        self._tell(
            Ready(plan, f"{backend.name}: {backend.why}", tuple(notes), self._run.steps_done)
        )

    def _mixed(self, prepared: Prepared, plan: Plan) -> float:
        rows = prepared.train
        steps = plan_epoch(rows.lengths, rows.classes, self.settings.seed, 0, plan.layout)
        return efficiency(steps, rows.lengths, rows.classes).mixed

    def _loop_settings(self, plan: Plan, extended: Mapping[str, Any] | None) -> LoopSettings:
        settings = self.settings
        every = max(1, plan.steps // max(1, plan.validations or settings.validations))
        # A kill may cost a minute of work, not more.
        per_minute = max(1, int(60 / plan.step_seconds)) if plan.step_seconds else every
        return LoopSettings(
            schedule=schedule_of(settings, plan, extended),
            validate_every=every,
            checkpoint_every=max(1, min(every, per_minute)),
            patience=settings.patience,
        )

    def _export(
        self, trainer: Trainer, base: GGUFFile, template: Template, prepared: Prepared
    ) -> None:
        self._tell(Phase(WRITING))
        card = adapter_card(prepared.policy, base, template, prepared.report)
        write_adapter(self._run.path, trainer.lora(), self.settings, base, card)

    def _update(self, **fields: Any) -> None:
        self._run.write_settings(self._run.settings() | fields)
