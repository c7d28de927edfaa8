"""Choosing the next token: llama.cpp's sampler chain, and a schema that costs little."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np

from openchat_local.models.engine.decoding.llamacpp import Context, Model
from openchat_local.models.engine.decoding.plain import refuse_foreign
from openchat_local.models.engine.decoding.schema import (
    CANDIDATE,
    Constraint,
    constraint_of,
    data_array,
)
from openchat_local.models.engine.protocol import Sampling
from openchat_local.models.errors import EngineError
from openchat_local.models.template.vocabulary import Vocabulary

PENALTY_WINDOW = 64


def random_seed() -> int:
    """A 32-bit seed from the operating system."""
    return int.from_bytes(os.urandom(4), "little")


class TokenSampler:
    """Samples the next token of one reply from a row of a context's logits."""

    def __init__(
        self,
        model: Model,
        sampling: Sampling,
        stop_ids: Collection[int],
        logit_bias: Sequence[tuple[int, float]] = (),
    ) -> None:
        """Raises EngineError for a JSON schema that cannot be enforced, and for a bias of what is
        no token."""
        refuse_foreign([id for id, _ in logit_bias], model.vocabulary)
        self._constraint: Constraint | None = None
        if sampling.json_schema is not None:
            self._constraint = constraint_of(model, sampling.json_schema, stop_ids)
        size = model.vocabulary.n_tokens
        self._candidates = np.empty(size if self._constraint else 0, dtype=CANDIDATE)
        self._ids = np.arange(len(self._candidates), dtype=np.int32)
        self._chain: Any = _build_chain(model.vocabulary, sampling, logit_bias)
        # Nothing but the largest logit: the chain would copy all of them to find it.
        self._largest = (
            sampling.temperature <= 0
            and sampling.repeat_penalty == 1.0
            and sampling.json_schema is None
            and not logit_bias
        )
        self._row = ctypes.c_float * size

    @property
    def complete(self) -> bool:
        """Whether a JSON schema is obeyed by what there is, if there is one."""
        return self._constraint is None or self._constraint.complete

    @property
    def finished(self) -> bool:
        """Whether a JSON schema lets nothing more come."""
        return self._constraint is not None and self._constraint.finished

    @property
    def forces(self) -> bool:
        """Whether `forced` may ever give a token."""
        return self._constraint is not None

    @property
    def note(self) -> str | None:
        """What the user should know of how the schema is held."""
        return None if self._constraint is None else self._constraint.note

    def begin(self, begun: Iterable[int]) -> None:
        """The reply begins with these tokens. Raises EngineError if the schema forbids them."""
        if (constraint := self._constraint) is None:
            return
        for token in begun:
            if not constraint.allows(token):
                raise EngineError(
                    "What the reply begins with does not obey the JSON schema: ask again."
                )
            constraint.accept(token)

    def sample(self, context: Context, row: int = -1) -> int:
        """Draw a token id from the logits of this row of the last batch, and let every sampler
        know of it."""
        constraint = self._constraint
        if self._largest:
            logits = llama.llama_get_logits_ith(context.pointer, row)
            address = ctypes.addressof(logits.contents)
            largest = memoryview(self._row.from_address(address))
            return int(np.frombuffer(largest, np.float32).argmax())
        if constraint is None:
            token: int = llama.llama_sampler_sample(self._chain, context.pointer, row)
            return token
        logits = llama.llama_get_logits_ith(context.pointer, row)
        values = np.ctypeslib.as_array(logits, shape=(len(self._ids),))
        token, _ = self._draw(values)
        if not constraint.allows(token):
            token, allowed = self._draw(values, constraint)
            if not allowed:
                raise EngineError("The JSON schema allows no further token: simplify the schema.")
        constraint.accept(token)
        llama.llama_sampler_accept(self._chain, token)
        return token

    def forced(self, most: int) -> list[int]:
        """The tokens, at most so many, that a JSON schema leaves no choice about: they need not
        be drawn. Every sampler knows of them."""
        tokens = [] if self._constraint is None else self._constraint.forced(most)
        for token in tokens:
            llama.llama_sampler_accept(self._chain, token)
        return tokens

    def _draw(self, logits: np.ndarray, constraint: Constraint | None = None) -> tuple[int, bool]:
        candidates = self._candidates
        candidates["id"] = self._ids
        candidates["logit"] = logits
        if constraint is not None:
            constraint.restrict(candidates)
        array = data_array(candidates)
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        chosen = array.data[array.selected]
        return int(chosen.id), bool(np.isfinite(chosen.logit))

    def close(self) -> None:
        if self._constraint is not None:
            self._constraint.close()
        if self._chain:
            llama.llama_sampler_free(self._chain)
        self._chain = self._constraint = None


def _build_chain(
    vocabulary: Vocabulary, sampling: Sampling, logit_bias: Sequence[tuple[int, float]]
) -> Any:
    parameters = llama.llama_sampler_chain_default_params()
    parameters.no_perf = True
    chain = llama.llama_sampler_chain_init(parameters)
    if logit_bias:
        given = [llama.llama_logit_bias(id, bias) for id, bias in logit_bias]
        biases = (llama.llama_logit_bias * len(given))(*given)
        bias = llama.llama_sampler_init_logit_bias(vocabulary.n_tokens, len(biases), biases)
        llama.llama_sampler_chain_add(chain, bias)
    for sampler in _samplers(vocabulary, sampling):
        llama.llama_sampler_chain_add(chain, sampler)
    return chain


def _samplers(vocabulary: Vocabulary, sampling: Sampling) -> Iterable[Any]:
    if sampling.repeat_penalty != 1.0:
        yield llama.llama_sampler_init_penalties(
            vocabulary.n_tokens, PENALTY_WINDOW, sampling.repeat_penalty, 0.0, 0.0
        )
    if sampling.temperature <= 0:
        yield llama.llama_sampler_init_greedy()
        return
    if sampling.top_k > 0:
        yield llama.llama_sampler_init_top_k(sampling.top_k)
    if sampling.top_p < 1:
        yield llama.llama_sampler_init_top_p(sampling.top_p, 1)
    if sampling.min_p > 0:
        yield llama.llama_sampler_init_min_p(sampling.min_p, 1)
    yield llama.llama_sampler_init_temp(sampling.temperature)
    seed = sampling.seed if sampling.seed is not None else random_seed()
    yield llama.llama_sampler_init_dist(seed & 0xFFFFFFFF)
