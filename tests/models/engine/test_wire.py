from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.models.conversation import ROLES, Conversation, Message, SampledIds, ToolCall
from openchat_local.models.engine import wire
from openchat_local.models.engine.protocol import GenerationRequest, Sampling

any_text = st.text(st.characters(exclude_categories=()))  # lone surrogates too
any_ids = st.builds(
    SampledIds, st.binary(max_size=50), st.none() | st.text("0123456789abcdef", max_size=16)
)
calls = st.builds(ToolCall, any_text, any_text, any_text)
messages = st.builds(
    Message, st.sampled_from(ROLES), any_text, st.none() | any_ids,
    st.lists(calls, max_size=2).map(tuple), st.none() | calls,
)  # fmt: skip
conversations = st.builds(
    Conversation,
    st.lists(messages).map(tuple),
    st.none() | any_text,
    st.none() | st.booleans(),
    any_text,
    st.booleans(),
)


@given(conversations, st.lists(any_text, max_size=3).map(tuple))
def test_a_request_arrives_as_it_was_sent(
    conversation: Conversation, stop: tuple[str, ...]
) -> None:
    request = GenerationRequest(
        conversation,
        Sampling(stop=stop, json_schema={"type": "object"}),
        chat_key="a-1",
        seed_drawn=True,
        speculate=False,
        likely="".join(stop),
    )
    stream = io.BytesIO()
    wire.FrameWriter(stream).write(wire.pack_request(request))
    stream.seek(0)
    frame = wire.read_frame(stream)
    assert frame is not None
    arrived = wire.unpack_request(frame)
    assert arrived == request
    ids = [message.sampled for message in conversation.messages]
    assert [message.sampled for message in arrived.conversation.messages] == ids
    assert wire.read_frame(stream) is None


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 9])
def test_a_frame_cut_short_by_the_writers_death_is_the_end(cut: int) -> None:
    stream = io.BytesIO()
    wire.FrameWriter(stream).write({"do": "cancel"})
    assert wire.read_frame(io.BytesIO(stream.getvalue()[:cut])) is None
