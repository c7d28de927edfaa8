"""`eval conditions`: what each trained condition changes, with the picture of where answers lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.completing import complete_adapter_or_file, complete_model
from openchat_local.app.cli.eval_options import finish, result_options, take_with_cards
from openchat_local.app.cli.finetune_options import reading_options, take_data_options
from openchat_local.app.cli.options import template_options
from openchat_local.app.cli.walled import WalledCommand

if TYPE_CHECKING:
    from openchat_local.app.cli.progress import Bar
    from openchat_local.finetune.data.options import DataOptions
    from openchat_local.finetune.evaluation.conditions.looking import Kept
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.losses.answers import Answers
    from openchat_local.finetune.evaluation.result import Result
    from openchat_local.models.engine.protocol import Engine
    from openchat_local.models.gguf import GGUFFile
    from openchat_local.models.library.adapter_file import AdapterCard

_COUNT = click.IntRange(min=1)
_LEAST_CONTEXT = 2048  # for what is written


def _conditions(
    ctx: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """CLASS=TEXT as pairs, and the others as they are."""
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if equals and name.strip() in pairs:
            raise click.BadParameter(f"{name.strip()!r} is given twice.")
        if equals:
            pairs[name.strip()] = value
    return pairs, tuple(text.strip() for text in given if "=" not in text)


@click.command(
    "conditions",
    cls=WalledCommand,
    short_help="What each trained condition changes, with a picture.",
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="NAME|FILE",
    help="What is looked at beside the base model; repeatable.",
    shell_complete=complete_adapter_or_file,
)
@click.option("--force", is_flag=True, help="Also where it was trained on another model.")
@click.option(
    "-m", "--model", metavar="NAME|FILE", help="The base model.", shell_complete=complete_model
)
@template_options
@click.option(
    "--condition",
    "conditions",
    multiple=True,
    metavar="TEXT|CLASS=TEXT",
    callback=_conditions,
    help="One more to look at, or that of a class; repeatable.",
)
@click.option(
    "--limit", type=_COUNT, default=100, show_default=True, metavar="N",
    help="The first N conversations of each class.",
)  # fmt: skip
@click.option(
    "--prompts", type=click.IntRange(min=0), default=4, show_default=True, metavar="N",
    help="Answer the first N prompts under every condition.",
)  # fmt: skip
@click.option(
    "--max-tokens", type=_COUNT, default=200, show_default=True, help="The longest such answer."
)
@click.option(
    "--top", type=click.IntRange(1, 4096), default=256, show_default=True, metavar="N",
    help="Compare the N likeliest tokens of each position.",
)  # fmt: skip
@click.option("--umap", "by_umap", is_flag=True, help="Draw by UMAP (the package umap-learn).")
@result_options
@reading_options
def conditions(file: Path, as_json: bool, out: Path | None, **flags: Any) -> None:
    """Look at the answers in FILE under every condition that an adapter was trained with.

    How well they are predicted, how much the next tokens depend on the condition, what is
    written under each to the same prompts, and whether answers of different classes lie apart:
    a picture of the last layer, with the silhouette as a number. FILE must hold what no
    adapter was trained on.

    \b
      openchat-local eval conditions held-out.jsonl --adapter mine
      openchat-local eval conditions held-out.jsonl --adapter sft --adapter crlft
      openchat-local eval conditions held-out.jsonl --adapter mine --condition "Math Correct"
    """
    from openchat_local.app.evaluations import result_folder
    from openchat_local.finetune.evaluation.keeping import check_folder

    if out is not None:
        check_folder(out)
    if flags["by_umap"]:
        from openchat_local.finetune.evaluation.conditions.projection import require_umap

        require_umap()
    pairs, also = flags.pop("conditions")
    options = take_data_options(flags | {"conditions": pairs})
    asked = _take(file, flags, also)
    stand = _Stand()
    try:
        result, key = _result(asked, options, flags, stand)
    except KeyboardInterrupt:
        click.echo(stand.in_words(), err=True)
        raise
    finish(result, out or result_folder("conditions", file.stem, key), as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Asked:
    """What is looked at: the base first. `cards` has one for each adapter, by its label."""

    file: Path
    base: GGUFFile
    contenders: Sequence[Contender]
    cards: Mapping[str, AdapterCard]
    template: str | None
    also: Sequence[str]

    def key(self, contender: Contender) -> dict[str, Any]:
        """All that decides what this one makes of given tokens."""
        return {"scores": replace(contender, condition=None, template=None).scoring_identity}

    def kept(self, contender: Contender) -> Kept:
        """Where what is known of this one is."""
        from openchat_local.app.evaluations import evaluations_dir
        from openchat_local.finetune.evaluation.conditions.looking import Kept
        from openchat_local.finetune.evaluation.rows import cache_file

        key = self.key(contender)
        return Kept(
            cache_file(evaluations_dir(), "readings", key),
            cache_file(evaluations_dir(), "places", key),
            cache_file(evaluations_dir(), "wrote", key | {"template": self.template}),
        )


class _Stand:
    """How far it is, for the bar and for whoever presses Ctrl-C."""

    def __init__(self) -> None:
        self.done = self.wanted = 0

    def begin(self, bar: Bar, wanted: int) -> None:
        """So much is to be done."""
        self.wanted, self._bar = wanted, bar
        bar.begin("starting", max(wanted, 1))

    def advance(self, label: str, amount: int) -> None:
        """So much of it was just done."""
        self.done += amount
        self._bar.show(self.done, label=label)

    def in_words(self) -> str:
        if not self.wanted:
            return "Stopped before anything was measured."
        return (
            f"Stopped: {self.done / self.wanted:.0%} of what there was to do is done and kept; the "
            "same command goes on."
        )


def _take(file: Path, flags: Mapping[str, Any], also: Sequence[str]) -> _Asked:
    """Raises what is wrong with the model or with an adapter."""
    from openchat_local.models.gguf import read_gguf

    contenders, cards, template = take_with_cards(flags)
    return _Asked(file, read_gguf(contenders[0].model), contenders, cards, template, also)


def _result(
    asked: _Asked, options: DataOptions, flags: Mapping[str, Any], stand: _Stand
) -> tuple[Result, dict[str, Any]]:
    """What was found, and all that decided it."""
    from tempfile import TemporaryDirectory

    from openchat_local.app.cli.progress import Bar
    from openchat_local.finetune.evaluation.conditions.looking import Look, Wanted
    from openchat_local.finetune.evaluation.conditions.report import result_of
    from openchat_local.finetune.evaluation.conditions.side_by_side import prompts_of
    from openchat_local.finetune.evaluation.losses.answers import read_answers
    from openchat_local.finetune.evaluation.result import made_by
    from openchat_local.models.template import choose_template
    from openchat_local.models.template.vocabulary import Vocabulary

    vocabulary = Vocabulary.open(asked.base.path)
    template = choose_template(asked.base, vocabulary, asked.template)
    with TemporaryDirectory(prefix="openchat-local-conditions-") as folder, Bar("reading") as bar:
        answers = read_answers(
            asked.file, options, template, [*asked.cards.values()], Path(folder),
            context=asked.base.context_length,
            limit=flags["limit"],
            also=asked.also,
        )  # fmt: skip
        lines = answers.rows[answers.conditions[0]].lines.tolist()
        prompts = prompts_of(asked.file, options, template, lines, flags["prompts"])
        wanted = Wanted(answers, prompts, template, flags["top"], flags["max_tokens"])
        looks = [
            Look(one, asked.cards.get(one.label), wanted, asked.kept(one))
            for one in asked.contenders
        ]
        stand.begin(bar, sum(look.cost for look in looks))
        with _engine(asked, answers, flags) as engine:
            seen = [look.see(engine, stand.advance) for look in looks]
        settings = {
            "template": template.name,
            "limit": flags["limit"],
            "prompts": len(prompts),
            "max_tokens": flags["max_tokens"],
            "top": flags["top"],
            "umap": flags["by_umap"],
            "classes": answers.policy.as_json(),
            "conditions": list(answers.conditions),
        }
        doubts = [one.doubt for one in asked.contenders if one.doubt is not None]
        bar.begin("drawing")
        result = result_of(
            asked.file, answers, seen, prompts,
            {look.contender.label: look.written() for look in looks},
            made_by("conditions", asked.contenders, [asked.file], settings),
            doubts,
            by_umap=flags["by_umap"],
        )  # fmt: skip
    keys = [[one.label, asked.key(one)] for one in asked.contenders]
    return result, {"data": answers.data, "settings": settings, "contenders": keys}


@contextmanager
def _engine(asked: _Asked, answers: Answers, flags: Mapping[str, Any]) -> Iterator[Engine]:
    """One for all contenders, which begins when it is asked for first."""
    from openchat_local.app.evaluations import engines

    longest = max(int(rows.lengths.max()) for rows in answers.rows.values())
    context = min(max(longest, _LEAST_CONTEXT), max(asked.base.context_length, longest))
    base = replace(asked.contenders[0], template=asked.template)
    with engines([base], context=context, force=flags["force"]) as engine_of:
        yield engine_of(base)
