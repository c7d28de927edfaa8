"""Where evaluations are kept, and engines for those that are judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.paths import data_home, ensure_home, findings_path

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.models.engine.protocol import Engine


def evaluations_dir() -> Path:
    """The folder of results, and of what was measured for them; it need not exist."""
    return data_home() / "evaluations"


def result_folder(kind: str, name: str, key: Mapping[str, Any]) -> Path:
    """Where the result of this `kind` is kept that all of `key` decided; `name` is for people."""
    from openchat_local.finetune.evaluation.rows import digest_of
    from openchat_local.models.library.adapters import name_for

    ensure_home()
    return evaluations_dir() / f"{kind}-{name_for(name)}-{digest_of(key)[:8]}"


@contextmanager
def engines(
    contenders: Sequence[Contender], *, context: int = 0, force: bool = False
) -> Iterator[Callable[[Contender], Engine]]:
    """Which engine a contender is asked through, local or remote: one for each model and template,
    which starts when it is asked for first. A request names the contender's `choice` as its
    adapter.

    `context` in tokens, 0 for what fits this machine. Nothing of it is kept on disk.
    """
    from openchat_local.app.settings.model import load_settings
    from openchat_local.models.engine.local import LocalEngine
    from openchat_local.models.engine.protocol import EngineOptions
    from openchat_local.models.engine.remote.engine import RemoteEngine

    settings = load_settings({})
    made: dict[tuple[Path, str | None], LocalEngine | RemoteEngine] = {}
    with ExitStack() as stack:

        def engine_of(contender: Contender) -> Engine:
            key = contender.model, contender.template
            if key not in made and contender.remote is not None:
                made[key] = RemoteEngine(contender.remote)
                stack.callback(made[key].close)
            elif key not in made:
                options = EngineOptions(
                    contender.model,
                    context=context,
                    gpu_layers=settings.gpu_layers,
                    threads=settings.threads,
                    template=contender.template,
                    adapter_forced=force,
                    flash_attention=settings.engine.flash_attention,
                    findings=findings_path(),
                )
                made[key] = LocalEngine(options)
                stack.callback(made[key].close)
            return made[key]

        yield engine_of
