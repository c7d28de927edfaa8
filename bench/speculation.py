"""Exact speculation on texts that repeat what came before, and on one that does not.

The reply is scripted: the starter is too weak to copy a file, and the 7B shape's weights are
random. Everything else is real: each row is decoded, each token is drawn from its logits, and
the script takes the place of what was drawn. The raw loop decodes as many tokens after the same
prompt. The ceiling follows from how often an expected token comes in that text, with the costs
of rows as measured between the rounds after that very text, all of which each row attends to;
"all foreseen" is what one would reach who knew beforehand how many drafts will come.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import psutil

from bench.copies import Copy, copies
from bench.raw_batches import RawBatches
from bench.rows import SIZES, ceiling, openchat_model, starter_model
from bench.setting import findings, rounds
from bench.shapes import OPENCHAT_7B
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.decoding import service as serving
from openchat_local.models.engine.decoding.llamacpp import Context
from openchat_local.models.engine.decoding.loading import Loaded, load_model
from openchat_local.models.engine.decoding.lookup import PromptLookup
from openchat_local.models.engine.decoding.sampler import TokenSampler
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationRequest,
    Sampling,
    Usage,
)

SPECULATED = 1.5  # times the raw loop, on the 7B shape where nearly all is accepted


class ScriptedSampler(TokenSampler):
    """Draws as any other, and says what the script says."""

    script: Sequence[int] = ()
    _at = 0

    def sample(self, context: Context, row: int = -1) -> int:
        super().sample(context, row)
        self._at += 1
        return self.script[self._at - 1]


@dataclass(frozen=True)
class Case:
    """A copy as token ids."""

    name: str
    request: GenerationRequest
    prompt: list[int]
    begun: list[int]
    likely: list[int]
    script: list[int]


class ScriptedEngine:
    """The engine's service in this process, whose replies are known beforehand."""

    def __init__(self, model: Path) -> None:
        self._loaded: Loaded = load_model(
            EngineOptions(model, context=8192, findings=findings()), lambda fraction: None
        )
        self._ids = 0

    def case(self, copy: Copy) -> Case:
        roles = ("user", "assistant")
        turns = [Message(roles[n % 2], text) for n, text in enumerate(copy.turns)]
        if copy.begun:
            turns.append(Message("assistant", copy.begun))
        vocabulary = self._loaded.model.vocabulary
        script = vocabulary.tokenize_content(copy.reply, leading_space=not copy.begun)
        request = GenerationRequest(
            Conversation(tuple(turns)),
            Sampling(temperature=0.0, max_tokens=len(script)),
            continues=bool(copy.begun),
            likely=copy.likely,
            update_interval=0.1,
        )
        service = self._service
        prompt = service.prompt(request, self._loaded.condition(None))
        likely = vocabulary.tokenize_content(copy.likely) if copy.likely else []
        return Case(copy.name, request, [*prompt.ids], [*prompt.begun], likely, script)

    def reply(self, case: Case, *, speculate: bool) -> Usage:
        """The scripted reply, with or without drafts, after a prompt that is in the cache."""
        from dataclasses import replace

        events: list[object] = []
        failures: list[Exception] = []
        ScriptedSampler.script = case.script
        service = self._service
        self._ids += 1
        service.cancels.open(self._ids)
        request = replace(case.request, speculate=speculate)
        service.submit(self._ids, request, events.append, failures.append)
        while service.busy:
            service.step()
        if failures:
            raise failures[0]
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert finished.usage.generated_tokens == len(case.script), finished
        return finished.usage

    def costs(self) -> dict[int, float]:
        """What the engine has measured of rows itself."""
        costs = self._service.scheduler.runner.costs
        return {} if costs is None else costs.measured()

    def close(self) -> None:
        for runner in self._service.scheduler.runners:
            runner.close()
        self._loaded.model.close()

    @property
    def _service(self) -> serving.Service:
        assert self._loaded.service is not None
        return self._loaded.service


def main() -> None:
    serving.TokenSampler = ScriptedSampler  # type: ignore[misc]
    cores = psutil.cpu_count(logical=False) or 1
    for name, opened, turns in (
        ("starter", starter_model, rounds(5)),
        (OPENCHAT_7B.name, openchat_model, min(2, rounds(2))),
    ):
        with (
            opened() as model,
            closing(RawBatches(model, cores)) as raw,
            closing(ScriptedEngine(model)) as engine,
        ):
            print(f"### {name}, {cores} threads\n")
            _report(raw, engine, turns)


def _report(raw: RawBatches, engine: ScriptedEngine, turns: int) -> None:
    print(
        "| | tokens | accepted of drafted | raw loop, tokens/s | plain engine | drafting "
        "| ceiling | of the ceiling | all foreseen |\n|---|---|---|---|---|---|---|---|---|"
    )
    for copy in copies():
        case = engine.case(copy)
        engine.reply(case, speculate=True)  # the prompt, and sizes that were never tried
        loops, plain, drafting, most = [], [], [], []
        usage = None
        for _ in range(turns):
            loops.append(raw.together([case.prompt], len(case.script)))
            plain.append(engine.reply(case, speculate=False).tokens_per_second / loops[-1])
            usage = engine.reply(case, speculate=True)
            drafting.append(usage.tokens_per_second / loops[-1])
            most.append(ceilings(case, _costs(raw)))
        assert usage is not None
        reached = median(a / b for a, (b, _) in zip(drafting, most, strict=True))
        acceptance, foreseen = (median(found) for found in zip(*most, strict=True))
        print(
            f"| {case.name} | {len(case.script)} | {usage.accepted_tokens} of "
            f"{usage.drafted_tokens} | {median(loops):.4g} | {_ratio(plain)} | {_ratio(drafting)} "
            f"| {acceptance:.2f}× | **{reached:.2f}** | {foreseen:.2f}× |",
            flush=True,
        )
    measured = ", ".join(f"{rows}: {cost:.2f}" for rows, cost in engine.costs().items())
    print(f"\nWhat the engine measured of rows itself: {measured}\n")


def _costs(raw: RawBatches) -> dict[int, float]:
    """What sizes cost now, against one row."""
    costs = {1: 1.0}
    for size in SIZES:
        single = median(raw.rows(1) for _ in range(2))
        costs[size] = raw.rows(size) / single
    return costs


def ceilings(case: Case, costs: Mapping[int, float]) -> tuple[float, float]:
    """Tokens for the time of one row, at most, with drafts from the same places.

    First, with the best number of rows for the acceptance that this text has: where a token is
    expected, it comes with probability p, and k rows give (1 - p^k) / (1 - p) tokens. Second, if
    one knew before each batch how many of its drafts will come.
    """
    lookup = PromptLookup(case.likely)
    lookup.extend(case.prompt[: len(case.prompt) - len(case.begun)])
    for token in case.begun:
        lookup.append(token)
    coming = []  # how many proposed tokens are right, after each token of the script
    came = {True: 0, False: 0, None: 0}
    for at, token in enumerate(case.script):
        came[lookup.append(token)] += at > 0
        proposed = lookup.propose(max(costs) - 1)
        rest = case.script[at + 1 :]
        agreeing = (a != b for a, b in zip(proposed, rest, strict=False))
        fewest = min(len(proposed), len(rest))
        coming.append(next((n for n, differs in enumerate(agreeing) if differs), fewest))
    expected = came[True] + came[False]
    speed = ceiling(costs, came[True] / expected)[1] if expected else 1.0
    for_its_acceptance = (len(case.script) - 1) / (came[None] + expected / speed)
    return for_its_acceptance, (len(case.script) - 1) / _foreseen(coming, costs)


def _foreseen(coming: Sequence[int], costs: Mapping[int, float]) -> float:
    """The least that the script costs, in passes of one row."""
    end = len(coming) - 1
    best = [0.0] * (end + 1)
    for at in range(end - 1, -1, -1):
        best[at] = min(
            _between(costs, 1 + drafts) + best[min(at + 1 + drafts, end)]
            for drafts in range(coming[at] + 1)
        )
    return best[0]


def _between(costs: Mapping[int, float], rows: int) -> float:
    if rows in costs:
        return costs[rows]
    for below, above in pairwise(sorted(costs)):
        if below < rows < above:
            share = (rows - below) / (above - below)
            return costs[below] + share * (costs[above] - costs[below])
    raise ValueError(rows)


def _ratio(values: Sequence[float]) -> str:
    return f"**{median(values):.3f}** ({min(values):.2f}–{max(values):.2f})"


if __name__ == "__main__":
    sys.exit(main())
