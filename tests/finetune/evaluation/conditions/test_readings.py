"""Answers under every condition, held against NumPy over llama.cpp's own logits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.evaluation.conditions.readings import Readings, Unread
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import AdapterChoice
from openchat_local.models.gguf import GGUFFile
from openchat_local.models.library.adapter_file import AdapterCard
from support.adapters import Logits

BARE = AdapterChoice()
EVERYTHING = 512  # more tokens than there are
ROUNDING = 2e-3  # of a whole answer: llama.cpp has other kernels for many rows than for one
BEST, OTHER = "GPT4 Correct", "GPT3"


@pytest.fixture(scope="module")
def logits(base: GGUFFile) -> Iterator[Logits]:
    found = Logits(base.path)
    yield found
    found.close()


def readings(
    answers: Answers, engine: LocalEngine, path: Path, top: int, choice: AdapterChoice = BARE
) -> Readings:
    return Unread(answers, path, top).read(engine, choice, lambda _: None)


def log_probabilities(logits: Logits, answers: Answers, condition: str, number: int) -> np.ndarray:
    """(judged tokens, vocabulary) float64: of what was expected at each."""
    row = answers.rows[condition][number]
    found = logits(row.ids.tolist()[:-1]).astype(np.float64)[np.flatnonzero(row.weights[1:] > 0)]
    return np.asarray(found - np.log(np.exp(found).sum(axis=1, keepdims=True)))


def test_losses_and_divergences_are_those_of_the_logits(
    read: Callable[..., Answers],
    card: AdapterCard,
    engine: LocalEngine,
    logits: Logits,
    tmp_path: Path,
) -> None:
    answers = read(card)
    assert answers.conditions == (BEST, OTHER)

    whole = readings(answers, engine, tmp_path / "whole", EVERYTHING)
    part = readings(answers, engine, tmp_path / "part", 20)

    for number in (0, 3, 6):
        log_p, log_q = (log_probabilities(logits, answers, c, number) for c in (BEST, OTHER))
        row = answers.rows[BEST][number]
        judged = row.ids[row.weights > 0]
        nats = -log_p[np.arange(len(judged)), judged].sum()
        assert whole.nats[BEST][number] == pytest.approx(nats, abs=ROUNDING)
        p, q = np.exp(log_p), np.exp(log_q)
        log_middle = np.log((p + q) / 2)
        forward, backward = (p * (log_p - log_q)).sum(), (q * (log_q - log_p)).sum()
        shannon = ((p * (log_p - log_middle)).sum() + (q * (log_q - log_middle)).sum()) / 2
        assert forward > 10 * ROUNDING  # the condition is heard
        exact = [forward, backward, shannon, shannon]
        assert np.allclose(whole.between[BEST, OTHER][number][:4], exact, rtol=0, atol=ROUNDING)
        bounded = part.between[BEST, OTHER][number]
        assert all(bounded[:3] <= np.array(exact[:3]) + ROUNDING)
        assert bounded[2] < shannon < bounded[3]


def test_an_adapter_that_changes_one_condition_changes_the_other_not(
    read: Callable[..., Answers],
    card: AdapterCard,
    engine: LocalEngine,
    three_is_other: Path,
    tmp_path: Path,
) -> None:
    answers = read(card)

    bare = readings(answers, engine, tmp_path / "bare", EVERYTHING)
    changed = readings(
        answers, engine, tmp_path / "changed", EVERYTHING, AdapterChoice(three_is_other)
    )

    assert np.allclose(changed.nats[BEST], bare.nats[BEST], rtol=0, atol=ROUNDING)
    assert not np.allclose(changed.nats[OTHER], bare.nats[OTHER], rtol=0, atol=10 * ROUNDING)
    more = changed.between[BEST, OTHER].sum(axis=0) - bare.between[BEST, OTHER].sum(axis=0)
    assert abs(more[2]) > 10 * ROUNDING


def test_what_is_known_is_not_read_again_and_what_was_lost_is(
    read: Callable[..., Answers], card: AdapterCard, engine: LocalEngine, tmp_path: Path
) -> None:
    answers, path = read(card), tmp_path / "kept"
    unread = Unread(answers, path, 8)
    lengths = sum(int(rows.lengths.sum()) for rows in answers.rows.values())
    assert unread.tokens == lengths
    advanced: list[int] = []
    first = unread.read(engine, BARE, advanced.append)
    assert sum(advanced) == lengths

    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 7
    path.write_bytes(b"".join(lines[:4]) + lines[4][:20])  # killed in the middle of a row

    left = Unread(answers, path, 8)
    assert len(left.numbers) == 3
    again = left.read(engine, BARE, advanced.append)
    assert Unread(answers, path, 8).tokens == 0
    for condition in answers.conditions:
        assert np.allclose(again.nats[condition], first.nats[condition], rtol=0, atol=ROUNDING)
    assert Unread(answers, path, 9).tokens == lengths  # more is to be known


def test_equal_conversations_of_two_classes_are_read_once(
    read: Callable[..., Answers], card: AdapterCard, engine: LocalEngine, data: Path, tmp_path: Path
) -> None:
    text = data.read_text().splitlines(keepends=True)
    data.write_text(text[0] + text[1] + text[0].replace("gpt4", "gpt35"))
    answers = read(card)
    count = len(answers.classes)

    found = readings(answers, engine, tmp_path / "kept", 8)

    assert len(found.nats[BEST]) == count
    assert len((tmp_path / "kept").read_bytes().splitlines()) <= 2


def test_one_condition_has_nothing_to_be_compared_with(
    read: Callable[..., Answers], engine: LocalEngine, data: Path, tmp_path: Path
) -> None:
    data.write_text("".join(data.read_text().splitlines(keepends=True)[:2]))

    found = readings(read(), engine, tmp_path / "kept", 8)

    assert list(found.nats) == [BEST]
    assert found.between == {}


def test_every_two_of_three_conditions_are_compared(
    read: Callable[..., Answers], card: AdapterCard, engine: LocalEngine, tmp_path: Path
) -> None:
    answers = read(card, also=["Math", BEST, ""])

    found = readings(answers, engine, tmp_path / "kept", 8)

    assert answers.conditions == (BEST, OTHER, "Math", "")
    assert list(found.between) == [*itertools.combinations(answers.conditions, 2)]
    assert all((sums[:, 2] > 0).all() for sums in found.between.values())
