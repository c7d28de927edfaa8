"""The status line says what matters in the room there is."""

from __future__ import annotations

import pytest

from openchat_local.app.chats.errors import ChatStoreError
from openchat_local.app.tui.markdown.sections import end_blocks
from openchat_local.app.tui.streaming import reason_of
from openchat_local.app.tui.widgets.status_bar import Status
from openchat_local.models.errors import ContextOverflow
from support.turns import turn


def test_loading_is_a_bar() -> None:
    line = Status(model="starter", activity="loading", progress=0.5).line(60)
    assert line.rstrip() == "starter  loading ━━━━━━┄┄┄┄┄┄  50%"


def test_speed_and_context_stand_on_the_right() -> None:
    line = Status(model="starter", tokens_per_second=12.34, tokens=1234, context=8192).line(60)
    assert line.startswith("starter  ")
    assert line.endswith("12.3 tokens/s  1,234 / 8,192")
    assert len(line) == 60


def test_an_unknown_count_is_no_number() -> None:
    assert Status(context=8192).line(20).strip() == "– / 8,192"


@pytest.mark.parametrize("width", [1, 10, 30])
def test_a_narrow_window_keeps_the_figures(width: int) -> None:
    status = Status(model="a-very-long-model-name", activity="writing", tokens=1, context=2)
    assert "1 / 2" in status.line(width)


def test_a_run_that_learns_has_a_word_that_is_cut_at_its_comma_where_room_is_short() -> None:
    status = Status(model="starter", learning="learning: 42 %, 3 min left", tokens=1, context=2)
    assert status.line(60).endswith("  learning: 42 %, 3 min left  1 / 2")
    assert status.line(40).split() == ["starter", "learning:", "42", "%", "1", "/", "2"]
    assert status.line(26) == "st…  learning: 42 %  1 / 2"


def test_a_store_that_fails_in_mid_reply_is_no_refusal() -> None:
    assert reason_of(ChatStoreError("The disk is full.")) == "not saved"
    assert reason_of(ContextOverflow("The prompt is too long.")) == "refused"
    (line,) = end_blocks(turn(1, "assistant", "half a rep", finish_reason="not saved"))
    assert "not saved" in str(line.rows(60))
