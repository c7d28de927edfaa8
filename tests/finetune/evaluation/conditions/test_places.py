"""Where answers lie: vectors of an answer alone, inside its chat, kept as they are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.evaluation.conditions.places import (
    Unplaced,
    packed,
    passage_of,
    unpacked,
    vectors_of,
)
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import AdapterChoice, Passage
from openchat_local.models.library.adapter_file import AdapterCard
from openchat_local.models.template import Template

BARE = AdapterChoice()
BEST, OTHER = "GPT4 Correct", "GPT3"
ROUNDING = 2e-3


def row(weights: list[int], ids: list[int] | None = None) -> Row:
    count = len(weights)
    numbers = np.array(ids or range(10, 10 + count), np.int32)
    return Row(numbers, np.array(weights, np.float32), 0, 1)


def test_a_passage_is_the_last_answer_without_its_end_of_turn() -> None:
    assert passage_of(row([0, 1, 1, 0, 0, 1, 1]), {16}) == Passage((10, 11, 12, 13, 14, 15), 5)
    assert passage_of(row([0, 0, 1, 1]), {99}) == Passage((10, 11, 12, 13), 2)
    assert passage_of(row([0, 0, 1]), {12}) == Passage((10, 11, 12), 2)  # there is nothing else
    assert passage_of(row([0, 1]), set()) == Passage((10, 11), 1)


def test_a_vector_is_the_mean_of_the_answers_own_states_under_its_condition(
    read: Callable[..., Answers],
    card: AdapterCard,
    engine: LocalEngine,
    template: Template,
    tmp_path: Path,
) -> None:
    answers, path = read(card), tmp_path / "kept"
    under = [[BEST, OTHER]] * len(answers.classes)

    Unplaced(answers, path, under, template.stop_ids).place(engine, BARE, lambda _: None)

    own = [BEST if index == 0 else OTHER for index in answers.classes.tolist()]
    found = vectors_of(answers, path, own)
    assert found.shape == (7, 64)
    expected = engine.embed([passage_of(answers.rows[c][n], template.stop_ids)
                             for n, c in enumerate(own)])  # fmt: skip
    assert np.allclose(found, expected, rtol=0, atol=ROUNDING)
    assert not np.allclose(vectors_of(answers, path, [BEST] * 7), found, rtol=0, atol=0.01)
    passage = passage_of(answers.rows[BEST][0], template.stop_ids)
    said = template.vocabulary.detokenize(passage.ids[passage.start :]).decode()
    assert said.strip() == "Blue, as far as I can see."


def test_what_was_placed_is_not_placed_again(
    read: Callable[..., Answers],
    card: AdapterCard,
    engine: LocalEngine,
    template: Template,
    tmp_path: Path,
) -> None:
    answers, path = read(card), tmp_path / "kept"
    first = Unplaced(answers, path, [[BEST]] * 7, template.stop_ids)
    assert len(first) == 7
    advanced: list[int] = []
    first.place(engine, BARE, advanced.append)
    assert len(Unplaced(answers, path, [[BEST]] * 7, template.stop_ids)) == 0
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:30])

    left = Unplaced(answers, path, [[BEST, OTHER], *[[BEST]] * 6], template.stop_ids)

    assert len(left) == 5
    left.place(engine, BARE, advanced.append)
    assert vectors_of(answers, path, [BEST] * 7).shape == (7, 64)


def test_vectors_are_kept_to_the_last_bit() -> None:
    vector = np.random.default_rng(0).standard_normal(33).astype(np.float32)

    assert np.array_equal(unpacked(packed(vector)), vector)
