"""What an ablation keeps while it works: whatever ends it, the same command goes on from here.

ablation.json      what all runs have in common
data/              the conversations of each recipe, as JSONL
held-out/          rows to measure, under each condition
base/              what was measured of the base model
c-rlft-seed0/      a run of `finetune`, and what was measured of its adapter
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.rows import RowStore
from openchat_local.finetune.evaluation.ablation.mixed_data import (
    MixedData,
    as_lines,
    chosen,
    options_of,
    write_held_out,
)
from openchat_local.finetune.evaluation.ablation.recipes import BASE, AblationError, Recipe
from openchat_local.finetune.evaluation.rows import RowFile, digest_of
from openchat_local.finetune.run.directory import RunDirectory, write_atomically
from openchat_local.finetune.run.settings import RunSettings
from openchat_local.models.template import Template

ABLATION, DATA, HELD_OUT = "ablation.json", "data", "held-out"


@dataclass(frozen=True, slots=True)
class Common:
    """What all runs of an ablation have in common: `pattern` are their settings, but for what a
    recipe decides, with `tokens` as the budget of each; `context` is in tokens."""

    pattern: RunSettings
    context: int
    base_fingerprint: str
    digests: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """What decides every figure, and no folder of this machine."""
        fields = self.pattern.as_json()
        for place in ("name", "base", "data", "seed"):
            del fields[place]
        fields["data_options"]["validation"] = self.pattern.data_options.validation is not None
        return {
            "settings": fields,
            "context": self.context,
            "base": self.base_fingerprint,
            "data": list(self.digests.values()),
        }


def run_name(recipe: Recipe, seed: int) -> str:
    """The name of a run, and of its folder."""
    return f"{recipe.name}-seed{seed}"


class AblationFolder:
    """The files of an ablation in `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def prepare(
        self,
        common: Common,
        data: MixedData,
        template: Template,
        runs: Sequence[tuple[Recipe, int]],
    ) -> int:
        """Write what the runs need, and begin those that are not there yet; how many held-out
        conversations cannot be measured.

        Raises AblationError where another ablation is kept here, or an OSError.
        """
        self._claim(common)
        lost = write_held_out(data, template, common.context, self.path / HELD_OUT)
        (self.path / DATA).mkdir(exist_ok=True)
        for recipe in {recipe.name: recipe for recipe, _ in runs}.values():
            lines = as_lines(chosen(data, recipe), own_weights=recipe.own_weights)
            write_atomically(self.data_file(recipe), lines)
        for recipe, seed in runs:
            name = run_name(recipe, seed)
            if (self.path / name / "run.json").is_file():
                continue
            settings = replace(
                common.pattern,
                name=name,
                data=self.data_file(recipe).absolute(),
                data_options=options_of(recipe, common.pattern.data_options),
                seed=seed,
            )
            fields = {"name": name, "settings": settings.as_json()}
            RunDirectory.create(self.path / name, fields)
        return lost

    def _claim(self, common: Common) -> None:
        stamp = common.as_json()
        digest = digest_of(stamp)
        place = self.path / ABLATION
        if place.is_file():
            with suppress(ValueError):
                if json.loads(place.read_text("utf-8")).get("digest") == digest:
                    return
            raise AblationError(
                f"{self.path} keeps the runs of another ablation (other data, model or settings): "
                "choose another folder with --out."
            )
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fields = {"digest": digest, **stamp, "pattern": common.pattern.as_json()}
        write_atomically(place, (json.dumps(fields, indent=2) + "\n").encode())

    def data_file(self, recipe: Recipe) -> Path:
        """The conversations that a recipe is trained on."""
        return self.path / DATA / f"{recipe.name}.jsonl"

    def held_out(self) -> list[RowStore]:
        """The rows to measure, for every condition."""
        folder = self.path / HELD_OUT
        numbers = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
        return [RowStore(folder / str(number)) for number in numbers]

    def settings_of(self, name: str) -> RunSettings:
        """Those of a run, or of all of them for the base model."""
        if name == BASE:
            fields = json.loads((self.path / ABLATION).read_text("utf-8"))["pattern"]
        else:
            fields = self.run(name).stored()["settings"]
        return RunSettings.from_json(fields)

    def run(self, name: str) -> RunDirectory:
        """That of a recipe and a seed."""
        return RunDirectory(self.path / name)

    def losses(self, name: str, evaluator: str) -> RowFile:
        """What `evaluator` measured of a run, or of the base model."""
        return RowFile(self.path / name / f"losses-{evaluator}.jsonl")

    def answers(self, name: str) -> RowFile:
        """What a run's adapter, or the base model, answered."""
        return RowFile(self.path / name / "answers.jsonl")

    def is_trained(self, name: str) -> bool:
        """Whether a run came to its end; the base model always did."""
        if name == BASE:
            return True
        ended = self.ending(name) in ("finished", "not finite")
        return ended and self.adapter(name).is_file()

    def ending(self, name: str) -> str | None:
        """How a run ended, None where it has not."""
        outcome = self.run(name).settings().get("outcome") or {}
        ending: str | None = outcome.get("ending")
        return ending

    def adapter(self, name: str) -> Path:
        """What a run has trained."""
        return self.path / name / "adapter.gguf"

    def spent(self, name: str) -> tuple[int, int]:
        """The steps of a run, and the tokens that it read in them."""
        steps = [record for record in self.run(name).metrics() if record["kind"] == "step"]
        return len(steps), sum(record["tokens"] for record in steps)

    def drop_checkpoints(self, name: str) -> None:
        """Remove what a finished run needs no more: ten times its adapter."""
        run = self.run(name).path
        for folder in (run / "checkpoints", run / "data", run / "adapter"):
            shutil.rmtree(folder, ignore_errors=True)
