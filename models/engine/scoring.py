"""How likely continuations are: log-probabilities of given tokens, many requests at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.llamacpp import Aborted, Adapter, Model
from openchat_local.models.engine.prefix_tree import Group, Path, Row, groups, shared_tokens
from openchat_local.models.engine.protocol import Score, ScoreRequest
from openchat_local.models.engine.side_context import (
    SLOTS,
    SideContext,
    SideSettings,
    cells_for,
    rows_at_once,
)
from openchat_local.models.engine.side_job import Cancelled, RowBudget
from openchat_local.models.errors import ContextOverflow, EngineError
from openchat_local.models.template import Template
from openchat_local.models.template.vocabulary import Vocabulary

ContentIds = Callable[[Message], Sequence[int] | None]


@dataclass(frozen=True, slots=True)
class Tokens:
    """A request as token ids, and what it is answered with besides the model."""

    prompt: Sequence[int]
    continuation: Sequence[int]
    top: int = 0
    adapter: Adapter | None = None
    scale: float = 1.0


def tokens_of(
    request: ScoreRequest,
    template: Template,
    adapter: Adapter | None = None,
    scale: float = 1.0,
    *,
    content_ids: ContentIds | None = None,
) -> Tokens:
    """Render `request`; `content_ids` as in `Template.render`. Raises TemplateError."""
    prompt, continuation = request.prompt, request.continuation
    if isinstance(prompt, Conversation):
        text = continuation if isinstance(continuation, str) else ""
        if text and not _is_open(prompt):
            ids, continuation = _reply(prompt, text, template, content_ids)
        else:
            ids = template.render(prompt, continues=_is_open(prompt), content_ids=content_ids).ids
    else:
        ids = list(prompt)
    if isinstance(continuation, str):
        spaced = template.vocabulary.spaces_after(ids[-1] if ids else None)
        continuation = template.vocabulary.tokenize_content(continuation, leading_space=spaced)
    return Tokens(ids, continuation, request.top, adapter, scale)


def _reply(
    prompt: Conversation, text: str, template: Template, content_ids: ContentIds | None
) -> tuple[list[int], list[int]]:
    """The ids of the prompt, and of `text` as what the assistant answers to it."""
    reply = Message("assistant", text)

    def known_ids(message: Message) -> Sequence[int] | None:
        return None if message is reply or content_ids is None else content_ids(message)

    turns = *prompt.messages, reply
    answered = replace(prompt, messages=turns)
    rendered = template.render(answered, continues=True, content_ids=known_ids)
    content = [span for span in rendered.spans if span.kind == "content"]
    is_there = bool(content) and content[-1].message == len(prompt.messages)
    start = content[-1].start if is_there else len(rendered.ids)
    return rendered.ids[:start], rendered.ids[start:]


def _is_open(conversation: Conversation) -> bool:
    return bool(conversation.messages) and conversation.messages[-1].role == "assistant"


def check_tokens(each: Sequence[Tokens], vocabulary: Vocabulary, size: int) -> None:
    """Raise ContextOverflow or EngineError, if one of them cannot be scored."""
    for number, tokens in enumerate(each, 1):
        length = len(tokens.prompt) + len(tokens.continuation)
        if length > size:
            raise ContextOverflow(
                f"What is to be scored is {length:,} tokens long with its prompt (number "
                f"{number} of {len(each)}) and the context holds {size:,}: shorten it, or "
                "restart with a larger --context."
            )
        if not tokens.prompt:
            raise EngineError(
                f"The prompt of number {number} of {len(each)} is empty, and the first token of "
                "all has no probability: begin with one."
            )
        for id in (*tokens.prompt, *tokens.continuation):
            if not 0 <= id < vocabulary.n_tokens:
                raise EngineError(
                    f"{id} is no token of this model, which has {vocabulary.n_tokens:,}: score "
                    "the ids of this model's own vocabulary."
                )


class ScoringJob:
    """Scores requests a batch at a time; `emit` gets those that are ready after each."""

    def __init__(
        self,
        model: Model,
        settings: SideSettings,
        requests: Sequence[Tokens],
        emit: Callable[[list[Score]], None],
    ) -> None:
        """Plans all of it, which takes a while for thousands of requests, and calls llama.cpp
        not yet. Raises ContextOverflow or EngineError, if one of them cannot be scored."""
        check_tokens(requests, model.vocabulary, settings.size)
        self._model, self._settings, self._emit = model, settings, emit
        longest = max((len(each.prompt) + len(each.continuation) for each in requests), default=0)
        self._cells = cells_for(longest, settings)
        self._sheets = [_Sheet(index, tokens) for index, tokens in enumerate(requests)]
        self._parts = list(_parts(self._sheets, model, self._cells))
        self._scratch = np.empty(model.vocabulary.n_tokens, dtype=np.float32)
        self._rows = RowBudget()
        self.cancelled = Cancelled()
        self.done = False
        self._work = self._batches()

    def step(self, seconds: float | None) -> None:
        """One batch that takes about so long. Raises EngineError or ModelLoadError."""
        try:
            if self.cancelled.is_set():
                raise Aborted
            most = rows_at_once(self._model.vocabulary.n_tokens)
            self._rows.allow(seconds, most)
            next(self._work)
        except (StopIteration, Aborted):
            self.done = True
        except BaseException:
            self.done = True
            raise

    def close(self) -> None:
        """Give the memory back."""
        self._work.close()
        self.done = True

    def _batches(self) -> Generator[None, None, None]:
        """All there is to do, a batch at a time."""
        if empty := [sheet.score() for sheet in self._sheets if sheet.complete]:
            self._emit(empty)
        if not self._parts:
            return
        context = SideContext(self._model, self._settings, cells=self._cells)
        try:
            self.cancelled.watch(context.abort)
            for part in self._parts:
                context.set_adapter(part.adapter, part.scale)
                for group in part.groups:
                    context.begin(group)
                    left = group.rows
                    while left:
                        rows, left = left[: self._rows.most], left[self._rows.most :]
                        with self._rows.timed(len(rows)):
                            context.decode(rows)
                            self._judge(context, rows, part.sheets)
                        yield
        finally:
            context.close()

    def _judge(self, context: SideContext, rows: Sequence[Row], sheets: Sequence[_Sheet]) -> None:
        wanted = [row for row in rows if row.wanted]
        if not wanted:
            return
        ready = []
        for row, logits in zip(wanted, context.logits(len(wanted)), strict=True):
            best = int(logits.argmax())
            normaliser = log_sum_exp(logits, logits[best], self._scratch)
            judged = [(sheets[number], index) for number, index in row.wanted]
            most = max(sheet.tokens.top for sheet, _ in judged)
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

    def __init__(self, index: int, tokens: Tokens) -> None:
        self.index, self.tokens, self.shared = index, tokens, 0
        count = len(tokens.continuation)
        self._left = count
        self._log_probabilities = [0.0] * count
        self._greedy = [False] * count
        self._top: list[tuple[tuple[int, float], ...]] = [()] * count

    @property
    def complete(self) -> bool:
        return self._left == 0

    @property
    def path(self) -> Path:
        """What goes through the model: the last token is only judged."""
        prompt, continuation = self.tokens.prompt, self.tokens.continuation
        return Path((*prompt, *continuation[:-1]), len(prompt) - 1, continuation)

    def write(
        self, index: int, log_probability: float, greedy: bool, top: Sequence[tuple[int, float]]
    ) -> None:
        self._log_probabilities[index] = log_probability
        self._greedy[index] = greedy
        self._top[index] = tuple(top[: self.tokens.top])
        self._left -= 1

    def score(self) -> Score:
        continuation = tuple(self.tokens.continuation)
        return Score(
            index=self.index,
            ids=continuation,
            log_probabilities=tuple(self._log_probabilities),
            greedy=tuple(self._greedy),
            top=tuple(self._top),
            tokens=len(self.tokens.prompt) + len(continuation) - 1 if continuation else 0,
            shared_tokens=self.shared,
        )


@dataclass(frozen=True, slots=True)
class _Part:
    """What is scored with one adapter, or none."""

    adapter: Adapter | None
    scale: float
    sheets: Sequence[_Sheet]
    groups: Iterator[Group]


def _parts(sheets: Sequence[_Sheet], model: Model, cells: int) -> Iterator[_Part]:
    by_adapter: dict[tuple[int, float], list[_Sheet]] = {}
    for sheet in sheets:
        if not sheet.complete:
            key = id(sheet.tokens.adapter), sheet.tokens.scale
            by_adapter.setdefault(key, []).append(sheet)
    for part in by_adapter.values():
        paths = [sheet.path for sheet in part]
        if model.cuttable:
            for sheet, shared in zip(part, shared_tokens(paths), strict=True):
                sheet.shared = shared
        slots = SLOTS if model.cuttable else 1
        planned = groups(paths, slots, cells, sharing=model.cuttable)
        yield _Part(part[0].tokens.adapter, part[0].tokens.scale, part, planned)


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
