"""How likely continuations are: log-probabilities of given tokens, many requests at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.decoding.prefix_tree import Path, Plan, Row
from openchat_local.models.engine.decoding.side_context import FRESH_CELLS, SideContext
from openchat_local.models.engine.decoding.side_job import Beside, SideJob
from openchat_local.models.engine.protocol import AdapterChoice, Score, ScoreRequest
from openchat_local.models.errors import ContextOverflow, EngineError
from openchat_local.models.template import Template

_WINDOW_TOKENS = 2**16


@dataclass(frozen=True, slots=True)
class Tokens:
    """A request as token ids."""

    prompt: Sequence[int]
    continuation: Sequence[int]


def tokens_of(request: ScoreRequest, template: Template, condition: str) -> Tokens:
    """Render `request`, under `condition` where its conversation names none. Raises
    TemplateError."""
    prompt, continuation = request.prompt, request.continuation
    if isinstance(prompt, Conversation):
        if prompt.condition is None:
            prompt = replace(prompt, condition=condition)
        text = continuation if isinstance(continuation, str) else ""
        if text and not _is_open(prompt):
            return Tokens(*_reply(prompt, text, template))
        ids = template.render(prompt, continues=_is_open(prompt)).ids
    else:
        ids = list(prompt)
    if not isinstance(continuation, str):
        return Tokens(ids, continuation)
    spaced = template.vocabulary.spaces_after(ids[-1] if ids else None)
    return Tokens(ids, template.vocabulary.tokenize_content(continuation, leading_space=spaced))


def _reply(prompt: Conversation, text: str, template: Template) -> tuple[list[int], list[int]]:
    """The ids of the prompt, and of `text` as what the assistant answers to it."""
    answered = replace(prompt, messages=(*prompt.messages, Message("assistant", text)))
    rendered = template.render(answered, continues=True)
    content = [span for span in rendered.spans if span.kind == "content"]
    is_there = bool(content) and content[-1].message == len(prompt.messages)
    start = content[-1].start if is_there else len(rendered.ids)
    return rendered.ids[:start], rendered.ids[start:]


def _is_open(conversation: Conversation) -> bool:
    return bool(conversation.messages) and conversation.messages[-1].role == "assistant"


class ScoringJob(SideJob):
    """Scores requests a batch at a time; `emit` gets those that are ready after each, and
    `finish` is called at the end.

    It first renders all of them, so that one that cannot be scored costs the others nothing.
    """

    def __init__(
        self,
        id: int,
        beside: Beside,
        requests: Sequence[ScoreRequest],
        render: Callable[[ScoreRequest, str], Tokens],
        emit: Callable[[list[Score]], None],
        finish: Callable[[], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """`render` gives a request's tokens, under the condition of its adapter."""
        super().__init__(id, beside, fail)
        self._requests, self._render = requests, render
        self._emit, self._finish = emit, finish
        self._scratch = np.empty(beside.model.vocabulary.n_tokens, dtype=np.float32)

    def _batches(self) -> Generator[None, None, None]:
        sheets: list[_Sheet] = []
        conditions: dict[AdapterChoice | None, str] = {}
        for request in self._requests:
            choice = request.adapter
            if choice not in conditions:
                conditions[choice] = self._beside.in_force(choice).condition
            sheets.append(_Sheet(len(sheets), request, self._render(request, conditions[choice])))
            self._check(sheets[-1])
            if self._is_time:
                yield
        if empty := [sheet.score() for sheet in sheets if sheet.complete]:
            self._emit(empty)
        if left := [sheet for sheet in sheets if not sheet.complete]:
            context = self._opened([len(sheet.path.ids) for sheet in left])
            yield
            for choice in conditions:
                of_this = [sheet for sheet in left if sheet.request.adapter == choice]
                if of_this:
                    self._use(context, choice)
                    yield from self._scored(context, of_this)
        self._finish()

    def _check(self, sheet: _Sheet) -> None:
        """Raise ContextOverflow or EngineError for what cannot be scored."""
        tokens, size = sheet.tokens, self._beside.settings.size
        which = f"number {sheet.index + 1} of {len(self._requests)}"
        length = len(tokens.prompt) + len(tokens.continuation)
        if length > size:
            raise ContextOverflow(
                f"What is to be scored is {length:,} tokens long with its prompt ({which}) and "
                f"the context holds {size:,}: shorten it, or restart with a larger --context."
            )
        if not tokens.prompt:
            raise EngineError(
                f"The prompt of {which} is empty, and the first token of all has no probability: "
                "begin with one."
            )
        count = self._beside.model.vocabulary.n_tokens
        for id in (*tokens.prompt, *tokens.continuation):
            if not 0 <= id < count:
                raise EngineError(
                    f"{id} is not a token of this model, which has {count:,}: score the ids of "
                    "this model's own vocabulary."
                )

    def _scored(
        self, context: SideContext, sheets: Sequence[_Sheet]
    ) -> Generator[None, None, None]:
        """A batch of what is scored under one adapter at each turn. Those that begin alike are
        planned together, as many as can be planned while a reply waits."""
        for window in _windows(sorted(sheets, key=lambda sheet: sheet.path.ids)):
            plan = Plan([sheet.path for sheet in window], sharing=context.sharing)
            for sheet, shared in zip(window, plan.shared, strict=True):
                sheet.shared = shared
            context.clear()
            for group in plan.groups(context.slots, context.cells, FRESH_CELLS):
                context.begin(group)
                start = 0
                while start < len(group.rows):
                    rows = group.rows[start : start + self._most_rows(context)]
                    if self._evaluate(context, rows):
                        self._judge(context, rows, window)
                        start += len(rows)
                    yield

    def _judge(self, context: SideContext, rows: Sequence[Row], sheets: Sequence[_Sheet]) -> None:
        wanted = [row for row in rows if row.wanted]
        if not wanted:
            return
        ready = []
        for row, logits in zip(wanted, context.logits(len(wanted)), strict=True):
            best = int(logits.argmax())
            normaliser = log_sum_exp(logits, logits[best], self._scratch)
            judged = [(sheets[number], index) for number, index in row.wanted]
            most = max(sheet.request.top for sheet, _ in judged)
            top = _likeliest(logits, most, normaliser)
            for sheet, index in judged:
                target = sheet.tokens.continuation[index]
                sheet.write(index, float(logits[target]) - normaliser, target == best, top)
                if sheet.complete:
                    ready.append(sheet.score())
        if ready:
            self._emit(ready)


class _Sheet:
    """What is known so far of one request."""

    def __init__(self, index: int, request: ScoreRequest, tokens: Tokens) -> None:
        self.index, self.request, self.tokens, self.shared = index, request, tokens, 0
        prompt, continuation = tokens.prompt, tokens.continuation
        # What goes through the model: the last token is only judged.
        count = len(continuation)
        self._judged = _judged(request, count)
        self._left = len(self._judged)
        targets: list[int | None] = [None] * count
        for index in self._judged:
            targets[index] = continuation[index]
        self.path = Path((*prompt, *continuation[:-1]), len(prompt) - 1, targets)
        self._log_probabilities = [0.0] * count
        self._greedy = [False] * count
        self._top: list[tuple[tuple[int, float], ...]] = [()] * count

    @property
    def complete(self) -> bool:
        return self._left == 0

    def write(
        self, index: int, log_probability: float, greedy: bool, top: Sequence[tuple[int, float]]
    ) -> None:
        self._log_probabilities[index] = log_probability
        self._greedy[index] = greedy
        self._top[index] = tuple(top[: self.request.top])
        self._left -= 1

    def score(self) -> Score:
        prompt, continuation, judged = self.tokens.prompt, self.tokens.continuation, self._judged
        return Score(
            index=self.index,
            ids=tuple(continuation[index] for index in judged),
            log_probabilities=tuple(self._log_probabilities[index] for index in judged),
            greedy=tuple(self._greedy[index] for index in judged),
            top=tuple(self._top[index] for index in judged),
            tokens=len(prompt) + len(continuation) - 1 if continuation else 0,
            shared_tokens=self.shared,
        )


def _judged(request: ScoreRequest, count: int) -> Sequence[int]:
    """Which of the `count` tokens of its continuation are judged. Raises EngineError."""
    if request.judged is None:
        return range(count)
    found: list[int] = []
    for start, end in request.judged:
        if not (found[-1] if found else -1) < start < end <= count:
            break
        found += range(start, end)
    else:
        if found:
            return found
    raise EngineError(
        f"The stretches {list(request.judged)} cannot be judged in a continuation of {count:,} "
        "tokens: name some, ascending, none of them empty."
    )


def _windows(sheets: Sequence[_Sheet]) -> Iterator[Sequence[_Sheet]]:
    """Stretches of so many tokens that to plan one takes some hundredths of a second."""
    start = tokens = 0
    for index, sheet in enumerate(sheets):
        tokens += len(sheet.path.ids)
        if tokens > _WINDOW_TOKENS and index > start:
            yield sheets[start:index]
            start, tokens = index, len(sheet.path.ids)
    if start < len(sheets):
        yield sheets[start:]


def log_sum_exp(logits: np.ndarray, peak: np.float32, scratch: np.ndarray) -> float:
    """log Σ exp(logits), whose largest is `peak`: what is to be subtracted from a logit for the
    logarithm of its probability. `scratch` is of their size, and overwritten."""
    np.subtract(logits, peak, out=scratch)
    np.exp(scratch, out=scratch)
    return float(peak) + math.log(float(scratch.sum()))


def _likeliest(logits: np.ndarray, count: int, normaliser: float) -> list[tuple[int, float]]:
    count = min(count, len(logits))
    if count == 0:
        return []
    found = np.argpartition(logits, -count)[-count:]
    found = found[np.lexsort((found, -logits[found]))]
    return [(int(id), float(logits[id]) - normaliser) for id in found]
