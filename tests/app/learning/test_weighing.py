"""Lessons as rows of tokens, weighed in a child process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from openchat_local.app.learning.feedback import Lesson, LessonTurn
from openchat_local.app.learning.weighing import Weigher, WeighingError


def lesson(*turns: tuple[str, str, float | None], condition: str | None = None) -> Lesson:
    made = tuple(
        LessonTurn(str(n), role, text, weight)  # type: ignore[arg-type]
        for n, (role, text, weight) in enumerate(turns)
    )
    return Lesson("chat", "Title", "", made, "expert", condition, 1.0, {})


@pytest.fixture
def weigher(model_path: Callable[[str], Path]) -> Iterator[Weigher]:
    weigher = Weigher(model_path("openchat"))
    yield weigher
    weigher.close()


def test_a_row_is_shown_as_it_is_trained_on(weigher: Weigher) -> None:
    asked, said = ("user", "Hello", 0.0), ("assistant", "Hi 灯台<|end_of_turn|>", None)
    before = ("assistant", "Yes?", 0.0)
    found, other = weigher.weigh(
        [lesson(asked, before, asked, said), lesson(asked, said, condition="Unrated")], runs=True
    )
    start, learned = found.runs
    assert start[0].startswith("<s>") or "GPT4 Correct User" in start[0]
    assert "Yes?" in start[0]
    assert start[1] == 0
    # The words of the control token are text, and the end of the turn is learned too.
    assert learned == (" Hi 灯台<|end_of_turn|><|end_of_turn|>", 1.0)
    assert "Unrated Assistant" in other.runs[0][0]
    assert 0 < found.learned < found.tokens
    assert not found.cut

    long = lesson(asked, ("assistant", "word " * 3000, None))
    nothing = lesson(("user", "word " * 3000, 0.0), said)
    (cut, dropped) = weigher.weigh([long, nothing])
    assert cut.cut
    assert cut.tokens == 2048
    assert cut.runs == ()
    assert dropped.dropped == "no weight within the context"

    weigher.close()
    with pytest.raises(WeighingError, match="stopped"):
        weigher.weigh([long])


def test_a_model_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    weigher = Weigher(tmp_path / "x.gguf")
    try:
        with pytest.raises(WeighingError, match=r"x\.gguf"):
            weigher.weigh([lesson(("user", "a", 0.0), ("assistant", "b", None))])
    finally:
        weigher.close()
