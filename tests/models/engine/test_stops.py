from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openchat_local.models.engine.decoding.stops import StopBuffer

few_letters = st.text("ab\n", max_size=30)


def feed_in_pieces(buffer: StopBuffer, pieces: list[str]) -> str:
    return "".join(buffer.feed(piece) for piece in pieces) + buffer.finish()


@given(st.lists(few_letters), st.lists(st.text("ab\n", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_earliest_stop_however_it_was_cut(
    pieces: list[str], stops: list[str]
) -> None:
    text = "".join(pieces)
    ends = [end for stop in stops if (end := text.find(stop)) >= 0]
    buffer = StopBuffer(stops)
    shown = feed_in_pieces(buffer, pieces)
    assert buffer.stopped == bool(ends)
    if not ends:
        assert shown == text
    else:
        # Stops that overlap: the one that is complete first ends the text.
        first_complete = min(text.find(stop) + len(stop) for stop in stops if stop in text)
        assert text.startswith(shown)
        assert not any(stop in shown for stop in stops)
        assert len(shown) <= first_complete


def test_what_could_begin_a_stop_is_held_back_and_nothing_else() -> None:
    buffer = StopBuffer(["\nUser:"])
    assert buffer.feed("Hello\nUs") == "Hello"
    assert buffer.feed("ed cars") == "\nUsed cars"
    assert not buffer.stopped
