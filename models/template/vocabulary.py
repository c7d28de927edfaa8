"""llama.cpp's own vocabulary, as the one tokenizer for chat and training.

Template text is tokenised with special tokens, content never: where a special token would
be parsed out of, or merged together from, what a person (or a training row) wrote,
`tokenize_content` cuts inside every literal that stands for one.

The vocabulary is always loaded with SentencePiece's automatic leading space switched off
(`space_prefix_override`), because llama.cpp would add one to every piece of a cut text.
`after_special` and `leading_space` say where one belongs.
"""

from __future__ import annotations

import codecs
import copy
import ctypes
import hashlib
import os
import re
import sys
import unicodedata
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

from openchat_local.models.errors import ModelFileError, TemplateError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template.literals import any_of, cut, starts_of

_SPACE_PREFIX_KEY = b"tokenizer.ggml.add_space_prefix"
_BLANK = "\u2581"  # stands for a space inside SentencePiece's tokens
_C_SPACES = " \t\n\v\f\r"
_WHITE = " \t\r\n" + _BLANK
# Of a vocabulary's texts so many go into its fingerprint, and those at both ends.
_FINGERPRINT_TEXTS, _FINGERPRINT_ENDS = 4096, 256


@lru_cache(maxsize=1)
def quiet_llama_log() -> Any:
    """Send llama.cpp's errors to stderr and drop the rest of its log, in this process.

    Returns the callback, which this cache also keeps alive for llama.cpp.
    """
    import llama_cpp

    error, continued = 4, 5  # enum ggml_log_level
    last_level = 0

    def write(level: int, text: bytes, _user_data: object) -> None:
        nonlocal last_level
        if level != continued:
            last_level = level
        if last_level == error and sys.stderr is not None:
            sys.stderr.write(text.decode("utf-8", "replace"))

    callback = llama_cpp.llama_log_callback(write)
    llama_cpp.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


def space_prefix_override() -> Any:
    """The `kv_overrides` array under which every model of this program is loaded.

    A ctypes array of two `llama_model_kv_override`, the second one empty (the end mark).
    Keep it alive for as long as the load lasts.
    """
    import llama_cpp

    overrides: Any = (llama_cpp.llama_model_kv_override * 2)()
    overrides[0].key = _SPACE_PREFIX_KEY
    overrides[0].tag = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_BOOL
    overrides[0].value.val_bool = False
    return overrides


class Vocabulary:
    """A model's tokens. Safe to read from several threads at once.

    `special_literals` maps the text of every token that is more than text to its id; content
    never contains such a token. Those are the control, unknown and unused tokens, and of
    the user-defined ones those that look like one (`<tool_call>`, `[PAD7]`) or that the
    template writes (see `guarding`). Other user-defined tokens (Gemma's runs of white
    space, deepseek's `ö`) are text. `end_of_generation_ids` are llama.cpp's own.
    """

    def __init__(self, vocab: Any, *, adds_space_prefix: bool) -> None:
        """Wrap a `llama_vocab` pointer; use `open` or `of_model`."""
        import llama_cpp

        self._llama = llama_cpp
        self.pointer = vocab
        self._unguarded: Vocabulary | None = None
        self._pieces: dict[int, bytes] = {}
        self._fingerprint: str | None = None
        # Headers come back in every conversation: training tokenises thousands.
        self._template_ids: dict[tuple[str, int | None], list[int]] = {}
        self.adds_space_prefix = adds_space_prefix
        self.n_tokens = int(llama_cpp.llama_vocab_n_tokens(vocab))
        self.bos_id = self._existing(llama_cpp.llama_vocab_bos(vocab))
        self.eos_id = self._existing(llama_cpp.llama_vocab_eos(vocab))
        self.adds_bos = bool(llama_cpp.llama_vocab_get_add_bos(vocab)) and self.bos_id is not None
        self._classify_tokens()

    @classmethod
    def open(cls, path: Path | str) -> Vocabulary:
        """Load only the vocabulary of the GGUF file at `path`.

        Raises ModelFileError if the file is bad or llama.cpp does not know its tokenizer.
        """
        # Says what is wrong with a bad file far better than llama.cpp; of parts it is the first.
        path = read_gguf(path).path
        import llama_cpp

        quiet_llama_log()
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        overrides = space_prefix_override()
        parameters.kv_overrides = overrides
        model = llama_cpp.llama_model_load_from_file(os.fsencode(path), parameters)
        if not model:
            raise ModelFileError(
                f"llama.cpp cannot read the vocabulary of {path}: "
                "update openchat-local, or use another conversion of the model."
            )
        vocabulary = cls.of_model(model, path)
        # llama.cpp keeps the pointer to the overrides, so they go when the model goes.
        weakref.finalize(
            vocabulary, lambda *loaded: llama_cpp.llama_model_free(loaded[0]), model, overrides
        )
        return vocabulary

    @classmethod
    def of_model(cls, model: Any, path: Path | str) -> Vocabulary:
        """The vocabulary of the `llama_model` pointer that was loaded from `path`.

        The model must have been loaded with `space_prefix_override`, and must live for as
        long as the vocabulary is used. Raises ModelFileError.
        """
        import llama_cpp

        vocab = llama_cpp.llama_model_get_vocab(model)
        kind = llama_cpp.llama_vocab_type(vocab)
        if kind == llama_cpp.LLAMA_VOCAB_TYPE_NONE:
            raise ModelFileError(f"{path} has no vocabulary; use a complete model file.")
        written = _metadata(model, _SPACE_PREFIX_KEY)
        default = kind == llama_cpp.LLAMA_VOCAB_TYPE_SPM
        vocabulary = cls(vocab, adds_space_prefix=written == "true" if written else default)
        # llama.cpp aborts the process on a character that it can neither find nor spell.
        if kind == llama_cpp.LLAMA_VOCAB_TYPE_SPM and len(vocabulary._byte_ids) < 256:
            raise ModelFileError(
                f"{path} lacks byte tokens in its SentencePiece vocabulary; "
                "use another conversion of the model."
            )
        return vocabulary

    def tokenize_template(self, text: str, *, after: int | None = None) -> list[int]:
        """Ids of trusted text, in which special tokens are written by their names.

        `after` is the id in front of the text, None at the start of a prompt: after a
        special token SentencePiece puts a space, and some tokens swallow the white space
        that follows. Piece by piece or in one go, the ids are those that llama.cpp gives
        for the whole text with `parse_special`.
        """
        known = self._template_ids.get((text, after))
        if known is None:
            known = self._tokenize_template(text, after)
            if len(self._template_ids) < 1024 and len(text) < 256:
                self._template_ids[text, after] = known
        return [*known]

    def _tokenize_template(self, text: str, after: int | None) -> list[int]:
        ids: list[int] = []
        for part in self._parsed_pattern.split(encodable(text)):
            if part in self._parsed:
                after = self._parsed[part]
                ids.append(after)
                continue
            raw = part.lstrip(_C_SPACES) if after in self._right_strippers else part
            if raw:
                ids += self._tokenize(" " + raw if self.spaces_after(after) else raw)
                after = ids[-1]
        return ids

    def special_spans(self, text: str) -> Iterator[tuple[int, int, int]]:
        """Where a special token is written in `text`: start, end and its id."""
        for match in self._parsed_pattern.finditer(text):
            id = self._parsed[match[0]]
            if id in self._special_ids:
                yield match.start(), match.end(), id

    def strips_after(self, id: int | None) -> bool:
        """Whether `id` swallows the white space that follows it."""
        return id in self._right_strippers

    def spaces_after(self, id: int | None) -> bool:
        """Whether SentencePiece puts a space before text that follows `id` (None: starts)."""
        return self.adds_space_prefix and (id is None or id in self._special_ids)

    def tokenize_content(self, text: str, *, leading_space: bool = False) -> list[int]:
        """Ids of untrusted text: never a special token, and the text can be read back.

        `leading_space` puts one space in front (`ContentDecoder` drops it again), unless
        the text is empty. Lone surrogates, and characters that the vocabulary cannot
        spell, become U+FFFD. Raises TemplateError if the vocabulary can spell some part of
        the text only as a special token.
        """
        if not text:
            return []
        text = encodable(" " + text if leading_space else text)
        ids = self._tokenize_text(text)
        if self.detokenize(ids) != text.encode():  # llama.cpp drops what it cannot spell
            ids = self._tokenize_text(text.translate(self._unspellable(text)))
        return ids

    def piece(self, id: int) -> bytes:
        """The bytes that `id` stands for; a special token's are its name."""
        known = self._pieces.get(id)
        if known is None:
            self._check(id)
            buffer = ctypes.create_string_buffer(128)
            to_piece = self._llama.llama_token_to_piece
            length = to_piece(self.pointer, id, buffer, len(buffer), 0, True)
            if length < 0:
                buffer = ctypes.create_string_buffer(-length)
                length = to_piece(self.pointer, id, buffer, len(buffer), 0, True)
            known = buffer.raw[:length]
            if self._byte_ids and id not in self._special_ids:
                # llama.cpp leaves the blanks of user-defined white space as they are.
                known = known.replace(_BLANK.encode(), b" ")
            self._pieces[id] = known
        return known

    def detokenize(self, ids: Iterable[int]) -> bytes:
        """The bytes of `ids`, a leading space included. (llama.cpp's own `detokenize`
        tidies spaces around punctuation in some vocabularies, which loses text.)"""
        return b"".join(map(self.piece, ids))

    def spells(
        self,
        ids: Sequence[int],
        text: str,
        *,
        leading_space: bool = False,
        allowed: frozenset[int] = frozenset(),
    ) -> bool:
        """Whether `ids`, which may be anybody's, are content of this vocabulary, none of them
        special but those `allowed`, and say exactly `text`; `leading_space` drops a space in
        front of it, as a `ContentDecoder` does. (A hundred times faster than tokenising the
        text.)"""
        if not len(ids):
            return not text
        if len(ids) > 4 * len(text) + 1:  # a token is a byte at the least
            return False
        if min(ids) < 0 or max(ids) >= self.n_tokens:
            return False
        if not (self._special_ids - allowed).isdisjoint(ids):
            return False
        data = self.detokenize(ids)
        data = data.removeprefix(b" ") if leading_space else data
        return data.decode("utf-8", "replace") == text

    @property
    def fingerprint(self) -> str:
        """What tells vocabularies apart, 16 hexadecimal digits: a BLAKE2b of the number of
        tokens and of the texts of 4,096 of them, evenly spaced, and of the first and last 256.

        Made in a few milliseconds when it is first asked for. Two vocabularies that only
        differ elsewhere have the same one: `spells` is what makes using somebody's ids right.
        """
        if self._fingerprint is None:
            step = max(1, self.n_tokens // _FINGERPRINT_TEXTS)
            last = max(0, self.n_tokens - _FINGERPRINT_ENDS)
            chosen = {*range(0, self.n_tokens, step), *range(last, self.n_tokens)}
            chosen |= {*range(min(self.n_tokens, _FINGERPRINT_ENDS))}
            texts = (self._llama.llama_vocab_get_text(self.pointer, id) for id in sorted(chosen))
            # Converters write the spaces of added tokens either way.
            joined = b"\0".join(text.replace(_BLANK.encode(), b" ") for text in texts)
            digest = hashlib.blake2b(b"%d\0" % self.n_tokens + joined, digest_size=8)
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def id_of(self, literal: str) -> int | None:
        """The special token written `literal`; None if the vocabulary has no such one."""
        return self.special_literals.get(literal)

    def is_special(self, id: int) -> bool:
        """Whether `id` is one of `special_literals`."""
        return id in self._special_ids

    def is_control(self, id: int) -> bool:
        """Whether llama.cpp types `id` as a control token."""
        self._check(id)
        return bool(self._llama.llama_vocab_is_control(self.pointer, id))

    def is_end_of_generation(self, id: int) -> bool:
        """Whether a model that samples `id` has finished."""
        return id in self.end_of_generation_ids

    def guarding(self, texts: Iterable[str]) -> Vocabulary:
        """This vocabulary, in which also those user-defined tokens are special that are
        written in `texts`, the headers and ends of turns of a template: `User:`, say. Letters
        alone never are: they can stand in any default system prompt, and must be typed."""
        ids = {
            id
            for text in texts
            for part in self._parsed_pattern.split(text)
            if (id := self._parsed.get(part)) is not None and not _is_plain(part)
        }
        if ids <= self._special_ids:
            return self
        guarded = copy.copy(self)
        guarded._unguarded = self  # owns what llama.cpp has loaded
        guarded._template_ids = {}
        guarded._set_special({*self._special_ids, *ids})
        return guarded

    def _existing(self, id: int) -> int | None:
        return id if 0 <= id < self.n_tokens else None

    def _check(self, id: int) -> None:
        # llama.cpp aborts the process on an id out of range.
        if not 0 <= id < self.n_tokens:
            raise IndexError(f"token {id} is outside a vocabulary of {self.n_tokens}")

    def _tokenize(self, text: str) -> list[int]:
        data = text.encode()
        # ctypes makes a type for each length of array: let them be few.
        room = 1 << len(data).bit_length()
        tokens = (ctypes.c_int32 * room)()
        count = self._llama.llama_tokenize(
            self.pointer, data, len(data), tokens, room, False, False
        )
        return tokens[:count]

    def _tokenize_text(self, text: str) -> list[int]:
        ids = [*self._tokenize_spelled(text)]
        if self._special_ids.isdisjoint(ids) and not self._hides_bytes(text, ids):
            return ids  # what looks like a special token is often harmless: `</s>` in HTML
        ids = []
        for piece in cut(text, self._literal_starts):
            ids += self._tokenize_spelled(piece)
        if self._special_ids.isdisjoint(ids):
            return ids
        return [spelled for id in ids for spelled in self._respelled(id)]

    def _hides_bytes(self, text: str, ids: list[int]) -> bool:
        """Whether a written `<0x0A>` has become that byte."""
        return bool(self._byte_ids) and "<0x" in text and self.detokenize(ids) != text.encode()

    def _unspellable(self, text: str) -> dict[int, str]:
        """What to write for the characters of `text` that do not come back."""
        return {
            ord(character): "\ufffd"
            for character in {*text}
            if self.detokenize(self._tokenize_spelled(character)) != character.encode()
        }

    def _tokenize_spelled(self, text: str) -> Iterable[int]:
        """Like `_tokenize`, but U+2581 stays what it is: SentencePiece takes it for a space."""
        if _BLANK not in text or not self._byte_ids:
            return self._tokenize(text)
        first, *others = (self._tokenize(part) if part else [] for part in text.split(_BLANK))
        blank = [self._byte_ids[byte] for byte in _BLANK.encode()]
        return chain(first, *(blank + other for other in others))

    def _respelled(self, id: int) -> Iterable[int]:
        if id not in self._special_ids:
            return (id,)
        name = self.piece(id)
        if not self._byte_ids:
            raise TemplateError(
                f"This model's vocabulary can write {name.decode(errors='replace')!r} only as "
                "a control token; leave it out of the text, or use another model."
            )
        return (self._byte_ids[byte] for byte in name.replace(_BLANK.encode(), b" "))

    def _classify_tokens(self) -> None:
        llama, vocab = self._llama, self.pointer
        control = llama.LLAMA_TOKEN_ATTR_CONTROL | llama.LLAMA_TOKEN_ATTR_UNKNOWN
        parsed = control | llama.LLAMA_TOKEN_ATTR_USER_DEFINED
        odd = parsed | llama.LLAMA_TOKEN_ATTR_UNUSED | llama.LLAMA_TOKEN_ATTR_BYTE
        kinds = {
            id: kind
            for id in range(self.n_tokens)
            if (kind := llama.llama_vocab_get_attr(vocab, id)) & odd
        }
        # Some files type even the end of a turn as plain text.
        for id in (self.bos_id, self.eos_id, self._existing(llama.llama_vocab_eot(vocab))):
            if id is not None and re.fullmatch(r"[<\[].+[>\]]", self._text(id)):
                kinds[id] = kinds.get(id, 0) | llama.LLAMA_TOKEN_ATTR_CONTROL

        texts = {id: self._text(id) for id in kinds}
        bytes_ = {id for id, kind in kinds.items() if kind & llama.LLAMA_TOKEN_ATTR_BYTE}
        self._byte_ids = {_byte_of(texts[id]): id for id in bytes_}
        self._parsed = {texts[id]: id for id, kind in kinds.items() if kind & parsed}
        self._right_strippers = {
            id for id, kind in kinds.items() if kind & llama.LLAMA_TOKEN_ATTR_RSTRIP
        }
        self._byte_literals = [texts[id] for id in bytes_]
        self._set_special(
            id
            for id, text in texts.items()
            if id not in bytes_
            and (
                kinds[id] & control
                or _looks_like_control(text)
                or (kinds[id] & llama.LLAMA_TOKEN_ATTR_UNUSED and text.strip(_WHITE))
            )
        )
        ends = (
            *kinds,
            self.eos_id,
            *(
                self._existing(special(vocab))
                for special in (llama.llama_vocab_eot, llama.llama_vocab_fim_pad)
            ),
        )
        self.end_of_generation_ids = frozenset(
            id for id in ends if id is not None and llama.llama_vocab_is_eog(vocab, id)
        )
        self._parsed_pattern = any_of(self._parsed)

    def _set_special(self, ids: Iterable[int]) -> None:
        self._special_ids = frozenset(ids)
        self.special_literals: Mapping[str, int] = {
            self._text(id): id for id in sorted(self._special_ids)
        }
        self._literal_starts = starts_of([*self.special_literals, *self._byte_literals])

    def _text(self, id: int) -> str:
        raw: bytes = self._llama.llama_vocab_get_text(self.pointer, id)
        return raw.decode("utf-8", "replace")


def _is_mark(character: str) -> bool:
    """Whether it is punctuation or a symbol."""
    return character != _BLANK and unicodedata.category(character)[0] in "PS"


def _is_plain(text: str) -> bool:
    """Whether a token is letters, digits and white space, or one character: never control."""
    return len(text) < 2 or not any(map(_is_mark, text))


def _looks_like_control(text: str) -> bool:
    """Whether a user-defined token is written as control tokens are: a word between marks,
    such as `<tool_call>`, `[PAD7]`, `◁think▷` or `]~b]`."""
    inside = text.strip(_WHITE)
    if not all(map(_is_mark, inside)):
        return _is_mark(inside[0]) and _is_mark(inside[-1])
    return inside.startswith("<|") and inside.endswith("|>")


def _byte_of(text: str) -> int:
    """The byte that a token such as "<0x0A>" stands for. Raises ModelFileError."""
    if not re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", text):
        raise ModelFileError(
            f"The model's vocabulary is damaged (it has the byte {text!r}): fetch the file again."
        )
    return int(text[3:5], 16)


class ContentDecoder:
    """Content ids to text, one by one. `feed` returns whole characters only; bytes that
    are no UTF-8 become U+FFFD. The strings of all calls, joined, are the content.

    `leading_space` drops the space that `tokenize_content` put in front.
    """

    def __init__(self, vocabulary: Vocabulary, *, leading_space: bool = False) -> None:
        self._vocabulary = vocabulary
        self._drop_space = leading_space
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, id: int) -> str:
        """The characters that `id` completes; often one word, "" in mid-character."""
        data = self._vocabulary.piece(id)
        if data and self._drop_space:
            data, self._drop_space = data.removeprefix(b" "), False
        return self._decoder.decode(data)

    @property
    def in_mid_character(self) -> bool:
        """Whether the last character lacks some of its bytes."""
        return bool(self._decoder.getstate()[0])

    def finish(self) -> str:
        """What is left: U+FFFD for a character that was never completed, or ""."""
        return self._decoder.decode(b"", final=True)


def _metadata(model: Any, key: bytes) -> str:
    """A scalar of the file as it was written, overrides left out; "" if absent."""
    import llama_cpp

    buffer = ctypes.create_string_buffer(64)
    length = llama_cpp.llama_model_meta_val_str(model, key, buffer, len(buffer))
    return buffer.value.decode() if length >= 0 else ""


def encodable(text: str) -> str:
    """`text` as it can be tokenised: pairs of surrogates joined, lone ones become U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
