"""Plain text and bare ids, without a template."""

from __future__ import annotations

from collections.abc import Sequence

from openchat_local.models.engine.protocol import VocabularyFacts
from openchat_local.models.errors import EngineError
from openchat_local.models.template import Template
from openchat_local.models.template.vocabulary import Vocabulary


def plain_ids(text: str, vocabulary: Vocabulary) -> list[int]:
    """The ids of text at the beginning of a prompt, behind BOS where the vocabulary wants one,
    which is left out. No part of it becomes a control token. Raises TemplateError."""
    begin = vocabulary.bos_id if vocabulary.adds_bos else None
    return vocabulary.tokenize_content(text, leading_space=vocabulary.spaces_after(begin))


def pieces_of(ids: Sequence[int], vocabulary: Vocabulary) -> list[str]:
    """The bytes of each id, as Latin-1, which JSON carries. Raises EngineError."""
    refuse_foreign(ids, vocabulary)
    return [vocabulary.piece(id).decode("latin-1") for id in ids]


def facts_of(template: Template) -> VocabularyFacts:
    """What is told of a vocabulary, and of what ends a reply."""
    vocabulary = template.vocabulary

    def name(id: int | None) -> str | None:
        return None if id is None else vocabulary.piece(id).decode("utf-8", "replace")

    bos, eos = vocabulary.bos_id, vocabulary.eos_id
    return VocabularyFacts(
        size=vocabulary.n_tokens,
        bos_id=bos,
        bos=name(bos),
        eos_id=eos,
        eos=name(eos),
        adds_bos=vocabulary.adds_bos,
        spaced=vocabulary.spaces_after(bos if vocabulary.adds_bos else None),
        ends=tuple(sorted(template.stop_ids)),
    )


def refuse_foreign(ids: Sequence[int], vocabulary: Vocabulary) -> None:
    """Raise EngineError for an id that is no token; llama.cpp would end the process."""
    for id in ids:
        if not 0 <= id < vocabulary.n_tokens:
            raise EngineError(
                f"{id} is not a token of this model, which has {vocabulary.n_tokens:,}: give ids "
                "of this model's own vocabulary."
            )
