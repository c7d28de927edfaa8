"""What is known is not measured again: not after a kill, not for another adapter or file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.evaluation.contender import Contender, contender
from openchat_local.finetune.evaluation.losses.answers import Answers
from openchat_local.finetune.evaluation.losses.by_engine import EngineLosses
from openchat_local.finetune.evaluation.losses.measuring import (
    LossError,
    Losses,
    Progress,
    measure,
)
from openchat_local.models.engine.protocol import AdapterChoice
from openchat_local.models.gguf import GGUFFile


class Recording:
    """Passes on what computes, counts its rows, and is interrupted after `rows` of them."""

    def __init__(self, losses: Losses, rows: int = 10**6) -> None:
        self._losses, self._left = losses, rows
        self.asked: list[tuple[Path | None, int]] = []

    def __call__(self, choice: AdapterChoice, rows: Sequence[Row]) -> Iterator[tuple[int, float]]:
        self.asked.append((choice.path, len(rows)))
        for found in self._losses(choice, rows):
            if not self._left:
                raise KeyboardInterrupt
            self._left -= 1
            yield found


@pytest.fixture
def cache(tmp_path: Path) -> Callable[[Contender], Path]:
    return lambda one: tmp_path / "cache" / f"{one.scoring_identity}.jsonl"


@pytest.fixture
def bare(base: GGUFFile) -> Contender:
    return contender("base", base.path)


@pytest.fixture
def mine(base: GGUFFile, adapter: Path) -> Contender:
    return contender("mine", base.path, adapter)


def test_the_same_again_evaluates_nothing(
    by_engine: EngineLosses,
    cache: Callable[[Contender], Path],
    bare: Contender,
    mine: Contender,
    read: Callable[..., Answers],
) -> None:
    first = measure(read(), [bare, mine], by_engine, cache)
    nobody = Recording(by_engine, 0)
    again = measure(read(), [bare, mine], nobody, cache)
    assert nobody.asked == []
    for label, conditions in first.items():
        for condition, nats in conditions.items():
            assert again[label][condition].tolist() == nats.tolist()


def test_an_interrupted_run_goes_on_from_what_it_has(
    by_engine: EngineLosses,
    cache: Callable[[Contender], Path],
    bare: Contender,
    mine: Contender,
    read: Callable[..., Answers],
) -> None:
    seen: list[Progress] = []
    with pytest.raises(KeyboardInterrupt):
        measure(read(), [bare, mine], Recording(by_engine, 11), cache, seen.append)
    assert (seen[-1].scored, seen[-1].wanted, seen[-1].contender) == (11, 16, "mine")
    with cache(mine).open("ab") as file:
        file.write(b'{"row":"torn')  # the last words of one that was killed
    rest = Recording(by_engine)
    whole = measure(read(), [bare, mine], rest, cache, seen.append)
    assert rest.asked == [(mine.choice.path, 5)]
    assert (seen[-1].scored, seen[-1].wanted) == (16, 16)
    assert seen[-1].tokens == seen[-1].of_tokens
    fresh = measure(read(), [bare, mine], by_engine, lambda one: cache(one).with_name(one.label))
    for label, conditions in whole.items():
        for condition, nats in conditions.items():
            assert nats == pytest.approx(fresh[label][condition], rel=1e-4)


def test_another_adapter_and_another_file_measure_only_what_is_new(
    by_engine: EngineLosses,
    cache: Callable[[Contender], Path],
    bare: Contender,
    mine: Contender,
    adapter: Path,
    data: Path,
    read: Callable[..., Answers],
) -> None:
    measure(read(), [bare], by_engine, cache)
    then = Recording(by_engine)
    half = contender("half", bare.model, adapter, scale=0.5)
    measure(read(), [bare, mine, half], then, cache)
    assert then.asked == [(adapter, 8), (adapter, 8)]
    data.write_text(data.read_text() + data.read_text().splitlines()[0].replace("Blue", "Grey"))
    more = Recording(by_engine)
    measure(read(), [bare, mine], more, cache)
    assert more.asked == [(None, 2), (adapter, 2)]


def test_a_loss_that_is_no_number_is_refused_with_its_line(
    cache: Callable[[Contender], Path], bare: Contender, read: Callable[..., Answers]
) -> None:
    def damaged(_: AdapterChoice, rows: Sequence[Row]) -> Iterator[tuple[int, float]]:
        yield 1, float(np.nan)

    with pytest.raises(LossError, match="The loss of line 2 by base is not a number"):
        measure(read(), [bare], damaged, cache)
    with suppress(FileNotFoundError):
        assert not cache(bare).read_bytes()
