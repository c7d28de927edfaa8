"""A child that trains and measures runs of an ablation one after the other, on a base that it
loads once.

`python -m openchat_local.finetune.evaluation.ablation.worker FOLDER EVALUATOR NAME…`, where
EVALUATOR is the backend that measures, or "none"; it talks as a training child does.
"""

from __future__ import annotations

import sys
import threading
from functools import partial
from pathlib import Path

from openchat_local.finetune.evaluation.ablation.folder import AblationFolder
from openchat_local.finetune.evaluation.ablation.measuring import is_measured, measure
from openchat_local.finetune.evaluation.ablation.recipes import BASE
from openchat_local.finetune.run.events import Outcome
from openchat_local.finetune.run.worker import serve, teller
from openchat_local.models.engine.wire import FrameWriter

MODULE = "openchat_local.finetune.evaluation.ablation.worker"
BEGAN, MEASURED, ENDED = "began", "measured", "ended"
NOBODY = "none"


def main(arguments: list[str]) -> None:
    """Bring the runs that are named to their ends."""
    folder, evaluator, *names = arguments
    serve(lambda out, stop: _work(AblationFolder(Path(folder)), evaluator, names, out, stop))


def _work(
    folder: AblationFolder,
    evaluator: str,
    names: list[str],
    out: FrameWriter,
    stop: threading.Event,
) -> Outcome | None:
    from openchat_local.finetune.evaluation.ablation.trainers import KeptTrainer, measuring_trainer
    from openchat_local.finetune.run.job import Job

    def tell(kind: str, name: str, share: float = 0.0) -> None:
        try:
            out.write({"type": kind, "name": name, "share": share})
        except OSError:
            stop.set()  # nobody listens any more

    trainers = KeptTrainer()
    for name in names:
        if stop.is_set():
            break
        tell(BEGAN, name)
        run = folder.run(name)
        if not folder.is_trained(name):
            with run.held():
                outcome = Job(run, teller(out, stop), stop.is_set, trainers).do()
            if outcome is None or outcome.ending == "interrupted":
                break
        kept, stores = folder.losses(name, evaluator), folder.held_out()
        if evaluator != NOBODY and not is_measured(kept.rows(), stores):
            settings = folder.settings_of(name)
            adapter = None if name == BASE else folder.adapter(name)
            trainer, positions = measuring_trainer(trainers, settings, evaluator, adapter)
            with kept:
                measure(
                    trainer, stores, kept, positions, partial(tell, MEASURED, name), stop.is_set
                )
            if stop.is_set():
                break
        folder.drop_checkpoints(name)
        tell(ENDED, name)
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
