"""What `eval compare` does one after the other: answers, and a judgement of each pair of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from openchat_local.app.cli.keyboard import at_a_terminal
from openchat_local.app.cli.progress import Bar
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.finetune.evaluation.compare.answers import Answers
    from openchat_local.finetune.evaluation.compare.figures import Judged
    from openchat_local.finetune.evaluation.compare.pairs import Pair
    from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
    from openchat_local.finetune.evaluation.contender import Contender
    from openchat_local.finetune.evaluation.judging.judge import Judging
    from openchat_local.models.engine.protocol import Engine

_GOES_ON = "the same command goes on from there"


class CompareError(OpenChatError):
    """A comparison that cannot be made, or not here."""


def answers_of(
    contenders: Sequence[Contender], prompts: Sequence[Prompt], *, force: bool, may_ask: bool
) -> list[Answers]:
    """The answers of each contender. Where they are not all there already, and nobody could
    judge them (`may_ask`), raise CompareError before any are written."""
    from openchat_local.finetune.evaluation.compare.answers import answer_prompts, turns_of
    from openchat_local.finetune.evaluation.rows import RowFile

    found: list[Answers] = []
    each = turns_of(prompts)
    with (
        _keeping("answers", each * len(contenders)) as count,
        _one_engine_at_a_time(force=force) as engine_of,
    ):
        for number, contender in enumerate(contenders):
            with RowFile(_cache("answers", {"by": contender.identity})) as kept:
                engine = partial(engine_of, contender) if may_ask else _nobody
                done = partial(count, number * each)
                found.append(answer_prompts(engine, contender, prompts, kept, on_answers=done))
    return found


def judged_by_model(
    judge: Contender, judging: Judging, pairs: Sequence[Pair], *, force: bool
) -> list[Judged]:
    """What a model makes of every pair."""
    from openchat_local.finetune.evaluation.compare.judges import judge_with
    from openchat_local.finetune.evaluation.rows import RowFile

    key = {"by": judge.identity, "judging": judging.as_json()}
    with (
        _keeping("verdicts", len(pairs)) as count,
        _one_engine_at_a_time(force=force) as engine_of,
        RowFile(_cache("verdicts", key)) as kept,
    ):
        engine, done = partial(engine_of, judge), partial(count, 0)
        return judge_with(engine, pairs, kept, judging, on_verdicts=done)


def judged_by_hand(
    pairs: Sequence[Pair], identities: Sequence[str], seed: int, *, reveal: bool
) -> list[Judged] | None:
    """What the person at the terminal makes of the pairs; None where they stopped before all had
    a vote. With `reveal`, of those that have one. Raises CompareError where nobody is there."""
    from openchat_local.app.cli.eval_compare_vote import vote
    from openchat_local.finetune.evaluation.compare.ballot import Ballot
    from openchat_local.finetune.evaluation.compare.judges import judged_by_vote
    from openchat_local.finetune.evaluation.rows import RowFile

    key = {"of": sorted(identities), "seed": seed}
    with RowFile(_cache("votes", key)) as rows:
        ballot = Ballot(pairs, rows)
        if ballot.current is not None and not reveal:
            if not at_a_terminal():
                _nobody()
            end = vote(ballot)
            if end != "done":
                total = len(ballot.pairs)
                click.echo(
                    f"{ballot.done:,} of {total:,} pairs are judged, and kept; {_GOES_ON}, and "
                    "--reveal shows who was who.",
                    err=True,
                )
                if end == "interrupted":
                    raise KeyboardInterrupt
                return None
        judged = judged_by_vote(pairs, ballot)
    if not judged:
        raise CompareError("Nothing is judged yet: leave --reveal away, and judge.")
    return judged


def may_vote(*, reveal: bool) -> bool:
    """Whether answers would be of use: somebody is there to judge them."""
    return at_a_terminal() and not reveal


def _nobody() -> NoReturn:
    raise CompareError(
        "Pairs are judged with keys, and this is no terminal: run the command in one, or name a "
        "model as the judge, such as --judge base."
    )


def _cache(kind: str, key: Mapping[str, Any]) -> Path:
    from openchat_local.app.evaluations import evaluations_dir
    from openchat_local.app.paths import ensure_home
    from openchat_local.finetune.evaluation.rows import cache_file

    ensure_home()
    return cache_file(evaluations_dir(), kind, key)


@contextmanager
def _keeping(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """Shows how much is done, before and now, and says what of it is kept where Ctrl-C ends it."""
    done = 0
    try:
        with Bar(what, total) as bar:

            def count(before: int, now: int) -> None:
                nonlocal done
                done = before + now
                bar.show(done)

            yield count
    except KeyboardInterrupt:
        click.echo(f"Stopped: {done:,} of {total:,} {what} are kept; {_GOES_ON}.", err=True)
        raise


@contextmanager
def _one_engine_at_a_time(*, force: bool) -> Iterator[Callable[[Contender], Engine]]:
    """A contender's engine, loaded. One model is in memory at a time: another is loaded when the
    first is given back."""
    from openchat_local.app.evaluations import engines

    with ExitStack() as stack:
        loaded: dict[tuple[Path, str | None], Engine] = {}

        def engine_of(contender: Contender) -> Engine:
            key = contender.model, contender.template
            if key not in loaded:
                stack.close()
                loaded.clear()
                engine = stack.enter_context(engines([contender], force=force))(contender)
                loaded[key] = engine
                engine.load()
            return loaded[key]

        yield engine_of
