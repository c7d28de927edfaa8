"""`eval loss`, and `finetune evaluate`: how well held-out answers are predicted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_adapter_or_file, complete_model
from openchat_local.app.cli.eval_options import finish, result_options, take_with_cards
from openchat_local.app.cli.finetune_options import evaluation_options, take_data_options
from openchat_local.app.cli.options import engine_options, template_options
from openchat_local.app.cli.walled import WalledCommand
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.cli.progress import Bar
    from openchat_local.finetune.adapter.lora import LoraConfig
    from openchat_local.finetune.backends.choose import Backend
    from openchat_local.finetune.backends.trainer import Trainer
    from openchat_local.finetune.data.options import DataOptions
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.losses.answers import Answers
    from openchat_local.finetune.evaluation.losses.measuring import Losses, Progress
    from openchat_local.finetune.evaluation.result import Result
    from openchat_local.models.gguf import GGUFFile
    from openchat_local.models.library.adapter_file import AdapterCard

_COUNT = click.IntRange(min=1)
LLAMA = "llama.cpp"
_LEAST_CONTEXT = 512


@click.command(
    "loss",
    cls=WalledCommand,
    short_help="How well held-out answers are predicted, per class and condition.",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME|FILE",
    help="What to measure beside the base model; repeatable.",
    shell_complete=complete_adapter_or_file,
)
@click.option("--force", is_flag=True, help="Also where it was trained on another model.")
@click.option(
    "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
)
@template_options
@engine_options
@click.option("--limit", type=_COUNT, metavar="N", help="The first N conversations of each class.")
@click.option(
    "--max-length",
    type=_COUNT,
    metavar="TOKENS",
    help="Cut longer conversations; without it, those that the context cannot hold are left out.",
)
@click.option(
    "--backend",
    type=click.Choice([LLAMA, "auto", "mlx", "torch"]),
    help="llama.cpp, as in chat (the default), or what trains: mlx, torch, auto (the faster).",
)
@click.option("--device", metavar="NAME", help="torch's: cuda:1, mps, cpu, …")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="Of the training backend's products.",
)
@result_options
@evaluation_options
def loss(file: Path, as_json: bool, out: Path | None, **flags: Any) -> None:
    """Measure how well the answers in FILE are predicted: by the base model, and by adapters.

    The loss of every class is taken under the condition of every class, in nats a token;
    lower is better. The number to look at is the change in the first class's line under the
    condition that one chats under, and its interval: if 0 lies within, the adapter may have
    changed nothing. FILE must hold what no adapter was trained on.

    \b
      openchat-local eval loss held-out.jsonl --adapter mine
      openchat-local eval loss held-out.jsonl --adapter sft --adapter crlft
    """
    from openchat_local.app.evaluations import result_folder
    from openchat_local.app.settings.model import load_settings
    from openchat_local.app.settings.remote_models import remote_options
    from openchat_local.finetune.evaluation.keeping import check_folder

    settings = load_settings({"model": flags["model"]})
    if flags.pop("engine") is not None or remote_options(settings) is not None:
        raise OpenChatError(
            "A loss is of tokens that are weighed one by one, for which the model's own file has "
            "to be here: name a model of this machine, or judge by eval answers or eval compare."
        )
    if out is not None:
        check_folder(out)
    options = take_data_options(flags)
    what = _take(file, flags)
    progress = _Stand()
    try:
        result, key = _result(what, options, flags, progress)
    except KeyboardInterrupt:
        click.echo(progress.in_words(), err=True)
        raise
    finish(result, out or result_folder("loss", file.stem, key), as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is measured on what, and by what: `backend` None is llama.cpp. `cards` has one for
    each adapter, by its contender's label; `template` the name of one, None for the model's."""

    file: Path
    base: GGUFFile
    contenders: Sequence[Contender]
    cards: Mapping[str, AdapterCard]
    template: str | None
    backend: Backend | None
    quantised: bool

    @property
    def by(self) -> str:
        """The backend in words: with another one, the losses are others."""
        if self.backend is None:
            return LLAMA
        from importlib.metadata import version

        held = ", quantised" if self.quantised else ""
        return f"{self.backend.name} {version(self.backend.name)}, {self.backend.why}{held}"

    def key(self, contender: Contender) -> dict[str, Any]:
        """All that decides what this one makes of given tokens."""
        alone = replace(contender, condition=None, template=None)  # these are in the tokens
        return {"scores": alone.scoring_identity, "by": self.by}


class _Stand:
    """How far it is, for whoever presses Ctrl-C."""

    def __init__(self) -> None:
        self.last: Progress | None = None

    def in_words(self) -> str:
        if self.last is None:
            return "Stopped before anything was measured."
        return (
            f"Stopped: {self.last.scored:,} of {self.last.wanted:,} losses (one for each "
            "conversation, condition and model) are known and kept; the same command goes on."
        )


def _take(file: Path, flags: Mapping[str, Any]) -> _Asked:
    """Raises click.UsageError, and what is wrong with the model or with an adapter."""
    from openchat_local.models.gguf import read_gguf

    backend = _backend(flags)
    contenders, cards, template = take_with_cards(flags)
    base = read_gguf(contenders[0].model)
    quantised = False
    if backend is not None:
        from openchat_local.finetune.run.plan import keeps_quantised

        quantised = keeps_quantised(base, backend, backend.free_memory())
    return _Asked(file, base, contenders, cards, template, backend, quantised)


def _backend(flags: Mapping[str, Any]) -> Backend | None:
    """None for llama.cpp. What only a training backend knows asks for one."""
    only = [f"--{name}" for name in ("device", "precision") if flags[name] is not None]
    name = flags["backend"] or ("auto" if only else LLAMA)
    if name == LLAMA:
        if only:
            raise click.UsageError(
                f"{' and '.join(only)} are for training backends: leave them away, or choose "
                "--backend torch or mlx."
            )
        return None
    from openchat_local.finetune.backends.choose import choose_backend

    return choose_backend(name, flags["device"] or "auto", flags["precision"] or "auto")


def _result(
    asked: _Asked, options: DataOptions, flags: Mapping[str, Any], stand: _Stand
) -> tuple[Result, dict[str, Any]]:
    """What was found, and all that decided it."""
    from tempfile import TemporaryDirectory

    from openchat_local.app.cli.progress import Bar
    from openchat_local.app.evaluations import evaluations_dir
    from openchat_local.finetune.evaluation.losses.answers import read_answers
    from openchat_local.finetune.evaluation.losses.measuring import measure
    from openchat_local.finetune.evaluation.losses.report import result_of
    from openchat_local.finetune.evaluation.result import made_by
    from openchat_local.finetune.evaluation.rows import cache_file
    from openchat_local.models.template import choose_template
    from openchat_local.models.template.vocabulary import Vocabulary

    vocabulary = Vocabulary.open(asked.base.path)
    template = choose_template(asked.base, vocabulary, asked.template)
    rows = TemporaryDirectory(prefix="openchat-local-loss-", ignore_cleanup_errors=True)
    with rows as folder, Bar("reading") as bar:
        answers = read_answers(
            asked.file, options, template, [*asked.cards.values()], Path(folder),
            context=_context(asked, flags["max_length"]),
            max_length=flags["max_length"],
            limit=flags["limit"],
        )  # fmt: skip

        def cache(contender: Contender) -> Path:
            return cache_file(evaluations_dir(), "loss", asked.key(contender))

        def show(progress: Progress) -> None:
            if stand.last is None or not stand.last.contender:
                bar.begin("scoring", progress.of_tokens)
            stand.last = progress
            bar.show(progress.tokens, label=f"scoring by {progress.contender}")

        with _losses(asked, answers, bar, force=flags["force"]) as losses:
            nats = measure(answers, asked.contenders, losses, cache, show)
        settings = {
            "by": asked.by,
            "template": template.name,
            "limit": flags["limit"],
            "max_length": flags["max_length"],
            "classes": answers.policy.as_json(),
            "conditions": list(answers.conditions),
        }
        produced = made_by("loss", asked.contenders, [asked.file], settings)
        result = result_of(asked.file, answers, nats, asked.cards, produced, _doubts(asked))
    key = {
        "data": answers.data,
        "settings": settings,
        "contenders": [[one.label, asked.key(one)] for one in asked.contenders],
    }
    return result, key


def _context(asked: _Asked, max_length: int | None) -> int:
    """The longest conversation that is measured whole."""
    from openchat_local.finetune.data.options import DEFAULT_MAX_LENGTH

    trained = asked.base.context_length
    if asked.backend is None or max_length is not None:
        return trained
    return min(DEFAULT_MAX_LENGTH, trained)  # what a training step holds


def _doubts(asked: _Asked) -> list[str]:
    return [one.doubt for one in asked.contenders if one.doubt is not None]


@contextmanager
def _losses(asked: _Asked, answers: Answers, bar: Bar, *, force: bool) -> Iterator[Losses]:
    """What computes; it loads a model when it is called first."""
    if asked.backend is not None:
        yield _trained(asked, asked.backend)
        return
    from openchat_local.app.evaluations import engines
    from openchat_local.finetune.evaluation.losses.by_engine import EngineLosses

    longest = max(int(rows.lengths.max()) for rows in answers.rows.values())
    base = replace(asked.contenders[0], template=asked.template)
    with engines([base], context=max(longest, _LEAST_CONTEXT), force=force) as engine_of:
        yield EngineLosses(engine_of(base))


def _trained(asked: _Asked, backend: Backend) -> Losses:
    from openchat_local.finetune.backends.trainer import OptimizerConfig
    from openchat_local.finetune.evaluation.losses.by_trainer import TrainerLosses

    def make(lora: LoraConfig) -> Trainer:
        return backend.make(
            asked.base, lora, OptimizerConfig(),
            seed=0, checkpointing=False, quantised=asked.quantised,
        )  # fmt: skip

    positions = backend.most_positions(quantised=asked.quantised) or 4096
    return TrainerLosses(asked.base, make, positions)
