"""Choosing the next token: llama.cpp's sampler chain, and a grammar that costs little."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Iterable
from typing import Any

import llama_cpp.llama_cpp as llama
import numpy as np

from openchat_local.models.engine.llamacpp import Context, Model
from openchat_local.models.engine.protocol import Sampling
from openchat_local.models.errors import EngineError
from openchat_local.models.vocabulary import Vocabulary

PENALTY_WINDOW = 64

_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


def random_seed() -> int:
    """A 32-bit seed from the operating system."""
    return int.from_bytes(os.urandom(4), "little")


def grammar_of_schema(schema: dict[str, Any] | bool) -> str:
    """A JSON schema as llama.cpp's GBNF. Raises EngineError for a schema it cannot express."""
    from llama_cpp import llama_grammar

    base: Any = llama_grammar.SchemaConverter

    class Converter(base):  # type: ignore[misc]
        def _format_literal(self, literal: str) -> str:
            # Theirs leaves backslashes alone, so that a constant with a quote, a line break or
            # an emoji becomes another text, or no grammar at all.
            if len(literal) > 1 and literal[0] == literal[-1] == '"':
                literal = json.dumps(json.loads(literal), ensure_ascii=False)
            return json.dumps(literal, ensure_ascii=False)

    try:
        converter: Any = Converter(
            prop_order={}, allow_fetch=False, dotall=False, raw_pattern=False
        )
        resolved = converter.resolve_refs({} if schema is True else schema, "schema")
        converter.visit(resolved, "")
        grammar: str = converter.format_grammar()
    except Exception as error:
        raise EngineError(
            f"The JSON schema cannot be turned into a grammar ({error}): simplify it."
        ) from error
    return grammar


class TokenSampler:
    """Samples the next token of one reply from the context's last logits."""

    def __init__(self, model: Model, sampling: Sampling, stop_ids: Iterable[int]) -> None:
        vocabulary = model.vocabulary
        self._chain: Any = _build_chain(vocabulary, sampling)
        self._grammar: Any = None
        if sampling.json_schema is not None and sampling.json_schema is not False:
            grammar = grammar_of_schema(sampling.json_schema).encode()
            self._grammar = llama.llama_sampler_init_grammar(
                llama.llama_model_get_vocab(model.pointer), grammar, b"root"
            )
            if not self._grammar:
                raise EngineError(
                    "llama.cpp refused the grammar of the JSON schema: simplify the schema."
                )
            # To the grammar an end of turn that the vocabulary does not count as an end of
            # generation is text, which a JSON string would take in: it may never be drawn.
            self._banned = [id for id in stop_ids if not vocabulary.is_end_of_generation(id)]
            self._candidates = np.empty(vocabulary.n_tokens, dtype=_CANDIDATE)
            self._ids = np.arange(vocabulary.n_tokens, dtype=np.int32)

    def sample(self, context: Context) -> int:
        """Draw a token id and let every sampler know of it."""
        if self._grammar is None:
            token: int = llama.llama_sampler_sample(self._chain, context.pointer, -1)
            return token
        return self._sample_with_grammar(context)

    def _sample_with_grammar(self, context: Context) -> int:
        # Asking the grammar about 49k tokens costs as much as decoding one. Nearly always the
        # token that would be drawn anyway obeys: ask about that one, and about all of them
        # only when it does not (as llama.cpp's own command line does).
        logits = llama.llama_get_logits_ith(context.pointer, -1)
        values = np.ctypeslib.as_array(logits, shape=(len(self._ids),))
        token, _ = self._draw(values)
        alone = np.array([(token, 1.0, 0.0)], dtype=_CANDIDATE)
        array = _data_array(alone)
        llama.llama_sampler_apply(self._grammar, ctypes.byref(array))
        if not np.isfinite(alone["logit"][0]):
            token, allowed = self._draw(values, constrained=True)
            if not allowed:
                raise EngineError("The JSON schema allows no further token: simplify the schema.")
        llama.llama_sampler_accept(self._grammar, token)
        llama.llama_sampler_accept(self._chain, token)
        return token

    def _draw(self, logits: np.ndarray, *, constrained: bool = False) -> tuple[int, bool]:
        candidates = self._candidates
        candidates["id"] = self._ids
        candidates["logit"] = logits
        candidates["logit"][self._banned] = -np.inf
        array = _data_array(candidates)
        if constrained:
            llama.llama_sampler_apply(self._grammar, ctypes.byref(array))
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        chosen = array.data[array.selected]
        return int(chosen.id), bool(np.isfinite(chosen.logit))

    def close(self) -> None:
        for sampler in (self._chain, self._grammar):
            if sampler:
                llama.llama_sampler_free(sampler)
        self._chain = self._grammar = None


def _data_array(candidates: np.ndarray) -> llama.llama_token_data_array:
    data = candidates.ctypes.data_as(llama.llama_token_data_p)
    return llama.llama_token_data_array(data, len(candidates), -1, False)


def _build_chain(vocabulary: Vocabulary, sampling: Sampling) -> Any:
    parameters = llama.llama_sampler_chain_default_params()
    parameters.no_perf = True
    chain = llama.llama_sampler_chain_init(parameters)
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
