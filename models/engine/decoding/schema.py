"""A JSON schema as a constraint on tokens: llguidance's work, or llama.cpp's where there is none.

Asking about a whole vocabulary costs as much as decoding a token. Nearly always the token that
would be drawn anyway obeys: the sampler asks about that one, and about all of them only when it
does not.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import llama_cpp.llama_cpp as llama
import numpy as np

from openchat_local.models.errors import EngineError

if TYPE_CHECKING:
    from openchat_local.models.engine.decoding.llamacpp import Model

Schema = dict[str, Any] | bool

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
"""llama.cpp's `llama_token_data`."""

OLD_WAY = (
    "llguidance is not installed here, so the JSON schema was given to llama.cpp, which does "
    "not hold all of it: check the reply, or install llguidance."
)
_NOT_HELD = "The JSON schema asks for {names}, which cannot be enforced: leave it out."
# Assertions of draft 3, which are unknown words now, and as such mean nothing.
_OF_OLD_DRAFTS = frozenset({"disallow", "divisibleBy", "extends"})
# Those without a short escape, as json.dumps writes them.
_CONTROL = re.compile(r"(?<!\\)(?:\\\\)*\\u00(?:0[0-7be-f]|1)")
_SCHEMAS_BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions"})
_SCHEMAS = frozenset(
    {"items", "prefixItems", "additionalItems", "additionalProperties", "allOf", "anyOf", "oneOf"}
)
# One line, as Python's json.dumps writes it: blanks that are free to choose, a model at a loss
# may emit for ever. Keys and strings have one spelling each: a key written "\u0061" would pass
# for another than "a", whose schema it must obey.
_OPTIONS: Any = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
    "coerce_one_of": False,
    "json_allowed_escapes": 'nrtbf\\"',
}


class Constraint(Protocol):
    """Which tokens may come next in a reply. `complete` is whether it may end where it is,
    `finished` whether it must; `note` a sentence for the user, if one is due."""

    note: str | None

    @property
    def complete(self) -> bool: ...

    @property
    def finished(self) -> bool: ...

    def allows(self, token: int) -> bool:
        """Whether the next token may be this one."""

    def restrict(self, candidates: np.ndarray) -> None:
        """Take the logits of all that may not come next, of the whole vocabulary in order
        (`CANDIDATE`), down to minus infinity."""

    def accept(self, token: int) -> None:
        """The reply continues with this token. Raises EngineError if it may not."""

    def forced(self, most: int) -> list[int]:
        """The tokens that come next in any case, at most so many; they are accepted."""

    def close(self) -> None: ...


def constraint_of(model: Model, schema: Schema, stop_ids: Collection[int]) -> Constraint:
    """What holds a reply, ended by one of `stop_ids`, to `schema`.

    Raises EngineError, which names what of the schema cannot be enforced.
    """
    try:
        import llguidance  # noqa: F401
    except ImportError:
        return _Grammar(model, schema, stop_ids)
    return _Guidance(model, schema, stop_ids)


class _Guidance:
    """llguidance's matcher over the model's vocabulary."""

    note: str | None = None

    def __init__(self, model: Model, schema: Schema, stop_ids: Collection[int]) -> None:
        from llguidance import LLMatcher

        _refuse_what_is_not_held(schema)
        if schema is False:
            raise EngineError("The JSON schema is false, which no reply can obey: change it.")
        text = json.dumps({} if schema is True else schema)
        grammar = LLMatcher.grammar_from_json_schema(text, overrides=_OPTIONS)
        self._stop_ids = stop_ids
        self._matcher = LLMatcher(_tokenizer(model, stop_ids), grammar, log_level=0)
        self._size = model.vocabulary.n_tokens
        if self._matcher.is_error():
            raise EngineError(_refusal(self._matcher.get_error()))

    @property
    def complete(self) -> bool:
        return bool(self._matcher.is_accepting())

    @property
    def finished(self) -> bool:
        return bool(self._matcher.is_stopped()) and self.complete

    def allows(self, token: int) -> bool:
        if token in self._stop_ids:
            return self.complete
        return self._matcher.validate_tokens([token]) == 1

    def restrict(self, candidates: np.ndarray) -> None:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, bitorder="little", count=self._size).astype(bool)
        candidates["logit"][~allowed] = -np.inf
        self._check()

    def accept(self, token: int) -> None:
        if token not in self._stop_ids:
            self._matcher.consume_token(token)
            self._check()

    def forced(self, most: int) -> list[int]:
        if most <= 0 or self._matcher.is_stopped():
            return []
        tokens: list[int] = self._matcher.compute_ff_tokens()[:most]
        if any(token in self._stop_ids for token in tokens) or not tokens:
            return []
        self._matcher.consume_tokens(tokens)
        self._check()
        return tokens

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().partition("\n")[0]
            raise EngineError(f"The JSON schema is too complex ({reason}): simplify it.")

    def close(self) -> None: ...


def _tokenizer(model: Model, stop_ids: Collection[int]) -> Any:
    """The vocabulary as llguidance wants it; made once for a model, in a quarter second."""
    from llguidance import LLTokenizer

    if model.guidance is None:
        vocabulary = model.vocabulary

        def name(id: int) -> bytes:
            # What this byte begins can come nowhere in JSON.
            special = id in stop_ids or vocabulary.is_special(id) or vocabulary.is_control(id)
            return b"\xff" * special + vocabulary.piece(id)

        from_llamacpp: Any = LLTokenizer.from_llamacpp  # type: ignore[attr-defined]
        model.guidance = from_llamacpp(
            tokens=[name(id) for id in range(vocabulary.n_tokens)],
            vocab_ptr=llama.llama_model_get_vocab(model.pointer),
            tokenize_fptr=ctypes.cast(llama._lib.llama_tokenize, ctypes.c_void_p).value,
            eos_token=sorted(stop_ids),
            slices=LLTokenizer.json_slices(),
        )
    return model.guidance


def _refuse_what_is_not_held(schema: Schema) -> None:
    """Raise EngineError for what llguidance would pass over in silence."""
    for part in _subschemas(schema):
        names = _OF_OLD_DRAFTS & part.keys()
        least, required = part.get("minProperties"), part.get("required", [])
        # It counts a key that comes twice as two.
        if isinstance(least, int) and isinstance(required, list) and least > len(required):
            names = names | {"minProperties above the number of required ones"}
        written = [part.get("const"), part.get("enum"), [*part.get("properties", ())], required]
        if _CONTROL.search(json.dumps(written)):
            names = names | {"text with control characters"}
        if names:
            raise EngineError(_NOT_HELD.format(names=", ".join(sorted(names))))


def _subschemas(schema: object) -> Iterator[dict[str, Any]]:
    """The schema and all schemas in it."""
    if not isinstance(schema, dict):
        return
    yield schema
    for name, value in schema.items():
        if name in _SCHEMAS_BY_NAME and isinstance(value, dict):
            parts: Iterable[object] = value.values()
        elif name in _SCHEMAS:
            parts = value if isinstance(value, list) else [value]
        else:
            continue
        for part in parts:
            yield from _subschemas(part)


def _refusal(error: str) -> str:
    if error.startswith("Unimplemented keys:"):
        names = ", ".join(re.findall(r'"([^"]*)"', error))
        return _NOT_HELD.format(names=names)
    if error.startswith("oneOf"):
        return (
            "The JSON schema asks for oneOf whose parts overlap, which cannot be enforced: use "
            "anyOf, or parts that exclude each other."
        )
    reason = " ".join(line.strip(" ^") for line in error.splitlines() if line.strip(" ^"))
    return f"The JSON schema cannot be enforced ({reason[:300].rstrip('.')}): change it there."


class _Grammar:
    """llama.cpp's grammar, made by llama-cpp-python's converter."""

    note: str | None = OLD_WAY

    def __init__(self, model: Model, schema: Schema, stop_ids: Collection[int]) -> None:
        grammar = _grammar_of_schema(schema).encode()
        vocabulary = llama.llama_model_get_vocab(model.pointer)
        self._stop_ids = stop_ids
        # To the grammar an end of turn that the vocabulary does not count as an end of
        # generation is text, which a JSON string would take in: it may never be drawn.
        ends = model.vocabulary.is_end_of_generation
        self._banned = [id for id in stop_ids if not ends(id)]
        self._ended = False
        self._sampler: Any = llama.llama_sampler_init_grammar(vocabulary, grammar, b"root")
        if not self._sampler:
            raise EngineError(
                "llama.cpp refused the grammar of the JSON schema: simplify the schema."
            )

    @property
    def complete(self) -> bool:
        return self._ended

    @property
    def finished(self) -> bool:
        return self._ended

    def allows(self, token: int) -> bool:
        alone = np.array([(token, 1.0, 0.0)], dtype=CANDIDATE)
        llama.llama_sampler_apply(self._sampler, ctypes.byref(data_array(alone)))
        return token not in self._banned and bool(np.isfinite(alone["logit"][0]))

    def restrict(self, candidates: np.ndarray) -> None:
        candidates["logit"][self._banned] = -np.inf
        llama.llama_sampler_apply(self._sampler, ctypes.byref(data_array(candidates)))

    def accept(self, token: int) -> None:
        llama.llama_sampler_accept(self._sampler, token)
        self._ended = token in self._stop_ids

    def forced(self, most: int) -> list[int]:
        return []

    def close(self) -> None:
        llama.llama_sampler_free(self._sampler)
        self._sampler = None


def data_array(candidates: np.ndarray) -> llama.llama_token_data_array:
    """Candidates as llama.cpp's samplers take them; they write into the array."""
    data = candidates.ctypes.data_as(llama.llama_token_data_p)
    return llama.llama_token_data_array(data, len(candidates), -1, False)


def _grammar_of_schema(schema: Schema) -> str:
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
