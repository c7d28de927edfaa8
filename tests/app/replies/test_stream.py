"""From a prompt to a reply on disk, whoever dies on the way."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from openchat_local.app.chats import (
    ChatStore,
    ChatStoreError,
    MessageNotFound,
    ReplyEnd,
    StoredMessage,
)
from openchat_local.app.replies import stream as replies
from openchat_local.app.replies.prompt import prompted, unsent_prompt
from openchat_local.app.replies.stream import (
    Begun,
    ReplyPlace,
    Shortened,
    _Record,
    send_prompt,
    stream_reply,
)
from openchat_local.models.conversation import Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    Finished,
    GenerationEvent,
    GenerationRequest,
    Heartbeat,
    Sampling,
    TextDelta,
    Usage,
)
from openchat_local.models.errors import ContextOverflow, EngineDied, TemplateError

GREEDY = Sampling(temperature=0.0, max_tokens=12)


@pytest.fixture(scope="module")
def engine(starter_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(starter_path, context=512))
    yield engine
    engine.close()


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    store = ChatStore.open(home)
    yield store
    store.close()


def test_two_turns_make_a_branch(store: ChatStore, engine: LocalEngine) -> None:
    chat = store.new_chat(system_prompt="Be brief.")
    for prompt in ("Hello!", "And again?"):
        send_prompt(store, chat.id, prompt)
        *_, finished = stream_reply(store, engine, chat.id, GREEDY)
        assert isinstance(finished, Finished)
    branch = store.branch(chat.id)
    assert [message.role for message in branch] == ["user", "assistant"] * 2
    assert unsent_prompt(store, chat.id, "More").conversation.messages == (
        Message("system", "Be brief."),
        *(Message(message.role, message.content) for message in branch),
        Message("user", "More"),
    )
    usage = branch[-1].usage
    assert usage is not None
    assert usage["reused_tokens"] > usage["evaluated_tokens"]


def test_the_seed_of_a_reply_is_kept_and_gives_it_again(
    store: ChatStore, starter_path: Path
) -> None:
    """As far as nothing was in the cache beside it: nobody had asked for that seed."""
    engine = LocalEngine(EngineOptions(starter_path, context=512))
    texts = []
    sampling = Sampling(temperature=1.0, max_tokens=20)
    for _ in range(2):
        chat = store.new_chat()
        send_prompt(store, chat.id, "Tell me something.")
        list(stream_reply(store, engine, chat.id, sampling))
        reply = store.branch(chat.id)[-1]
        texts.append(reply.content)
        assert reply.sampling is not None
        assert reply.sampling.pop("thoughts") == []  # the starter has no marks of any
        sampling = Sampling(**reply.sampling | {"stop": tuple(reply.sampling["stop"])})
    engine.close()
    assert texts[0] == texts[1]


def test_leaving_the_stream_keeps_what_came(store: ChatStore, engine: LocalEngine) -> None:
    chat = store.new_chat()
    send_prompt(store, chat.id, "Write a long essay.")
    stream = stream_reply(store, engine, chat.id, Sampling(temperature=0.0))
    text = ""
    for event in stream:
        if isinstance(event, TextDelta):
            text += event.text
            break
    stream.close()
    reply = store.branch(chat.id)[-1]
    assert (reply.content, reply.finish_reason) == (text, "cancelled")


def test_death_of_the_engine_keeps_what_came(store: ChatStore, engine: LocalEngine) -> None:
    chat = store.new_chat()
    send_prompt(store, chat.id, "Write a long essay.")
    text = ""
    died = False
    try:
        for event in stream_reply(store, engine, chat.id, Sampling(temperature=0.0)):
            if isinstance(event, TextDelta):
                text += event.text
                assert engine.pid is not None
                os.kill(engine.pid, signal.SIGKILL)
    except EngineDied:
        died = True
    assert died
    reply = store.branch(chat.id)[-1]
    assert (reply.content, reply.finish_reason) == (text, "engine died")
    send_prompt(store, chat.id, "Go on.")
    *_, finished = stream_reply(store, engine, chat.id, GREEDY)
    assert isinstance(finished, Finished)


def test_a_refused_prompt_stays_and_the_chat_goes_on(store: ChatStore, engine: LocalEngine) -> None:
    chat = store.new_chat()
    send_prompt(store, chat.id, "word " * 600)
    with pytest.raises(ContextOverflow):
        list(stream_reply(store, engine, chat.id, GREEDY))
    assert [message.finish_reason for message in store.branch(chat.id)][-1] == "refused"
    assert store.branch(chat.id)[0].content == "word " * 600


def test_a_private_chat_leaves_no_state(home: Path, store: ChatStore, starter_path: Path) -> None:
    states = home / "states"
    engine = LocalEngine(EngineOptions(starter_path, context=512, states_dir=states))
    for private in (True, False):
        chat = store.new_chat(private=private)
        send_prompt(store, chat.id, "Tell me about the sea. " * 30)
        list(stream_reply(store, engine, chat.id, GREEDY))
        engine.leave(chat.id)
        engine.count_tokens(unsent_prompt(store, chat.id, "").conversation)
    send_prompt(store, chat.id, "Wait for the save.")
    list(stream_reply(store, engine, chat.id, GREEDY))
    assert {path.name.split(".")[0] for path in states.iterdir()} == {chat.id}
    engine.close()


def test_the_engine_forgets_a_chat_that_is_deleted_while_it_answers(
    home: Path, store: ChatStore, starter_path: Path
) -> None:
    engine = LocalEngine(EngineOptions(starter_path, context=512, states_dir=home / "states"))
    chat = store.new_chat()
    send_prompt(store, chat.id, "Tell me about the sea. " * 30)
    stream = stream_reply(store, engine, chat.id, Sampling(temperature=0.0))
    next(event for event in stream if isinstance(event, TextDelta))
    store.delete_chat(chat.id)
    with pytest.raises(MessageNotFound):
        list(stream)
    engine.leave(chat.id)  # would write its state
    other = store.new_chat()
    send_prompt(store, other.id, "Hi")
    list(stream_reply(store, engine, other.id, GREEDY))  # after that
    engine.close()
    assert not list(home.glob("states/*"))


def limit_pages(store: ChatStore, spare: int) -> None:
    """Let the database grow by so many pages only, as on a disk that is nearly full."""
    with store._database.exclusive() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + spare}")


@pytest.fixture
def record(store: ChatStore, monkeypatch: pytest.MonkeyPatch) -> _Record:
    """A reply that is flushed with every delta."""
    monkeypatch.setattr(replies, "FLUSH_SECONDS", 0.0)
    return _Record(store, store.begin_reply(store.new_chat().id, None, model=None).id)


def test_a_full_disk_in_mid_reply_costs_nothing_if_room_is_made(
    store: ChatStore, record: _Record
) -> None:
    limit_pages(store, 0)
    record.take(TextDelta("x" * 100_000, 1))
    assert store.chats()[0].message_count == 1
    (reply,) = store.messages(store.chats()[0].id)
    assert reply.content == ""
    limit_pages(store, 1000)
    record.take(Heartbeat())  # the next flush
    assert store.message(reply.id).content == "x" * 100_000
    limit_pages(store, 0)
    record.take(TextDelta("y" * 100_000, 1))
    limit_pages(store, 1000)
    record.close()
    assert store.message(reply.id).content == "x" * 100_000 + "y" * 100_000


def test_a_disk_that_stays_full_is_told_once_at_the_end(store: ChatStore, record: _Record) -> None:
    limit_pages(store, 0)
    record.take(TextDelta("x" * 100_000, 1))
    record.take(TextDelta("x", 1))
    usage = Usage(1, 0, 0, 1, 2, 0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ChatStoreError, match="full"):
        record.take(Finished("stop", usage, (1, 2)))
    record.close()


def test_a_conversation_that_cannot_be_written_is_refused(
    store: ChatStore, engine: LocalEngine
) -> None:
    chat = store.new_chat(condition="<|im_end|>")
    send_prompt(store, chat.id, "Hi")
    with pytest.raises(TemplateError, match="control token"):
        list(stream_reply(store, engine, chat.id, GREEDY))
    assert store.branch(chat.id)[-1].finish_reason == "refused"


def answered(store: ChatStore, chat_id: str, *exchanges: tuple[str, str, ReplyEnd]) -> None:
    for prompt, content, reason in exchanges:
        send_prompt(store, chat_id, prompt)
        reply = store.begin_reply(chat_id, store.chat(chat_id).leaf_id, model=None)
        store.finish_reply(reply.id, content, reason)


def turns(store: ChatStore, chat_id: str, unsent: str = "") -> list[tuple[str, str]]:
    conversation = unsent_prompt(store, chat_id, unsent).conversation
    return [(message.role, message.content) for message in conversation.messages]


def test_a_prompt_that_was_refused_is_not_in_the_way_of_the_next(store: ChatStore) -> None:
    chat_id = store.new_chat().id
    answered(store, chat_id, ("One", "1", "stop"), ("far too long", "", "refused"))
    before = [("user", "One"), ("assistant", "1")]
    # It is still what a second try would ask.
    assert turns(store, chat_id) == [*before, ("user", "far too long")]
    assert turns(store, chat_id, "Two") == [*before, ("user", "Two")]
    send_prompt(store, chat_id, "Two")
    assert turns(store, chat_id) == [*before, ("user", "Two")]


def test_a_prompt_that_was_answered_at_the_second_try_stays(store: ChatStore) -> None:
    chat_id = store.new_chat().id
    answered(store, chat_id, ("One", "", "refused"))
    again = store.begin_reply(chat_id, store.chat(chat_id).leaf_id, model=None)
    store.finish_reply(again.id, "1", "stop")
    assert turns(store, chat_id, "Two") == [("user", "One"), ("assistant", "1"), ("user", "Two")]


def test_roles_alternate_after_replies_without_a_word(store: ChatStore) -> None:
    chat_id = store.new_chat(system_prompt="Be brief.").id
    answered(store, chat_id, ("One", "", "cancelled"), ("Two", "", "engine died"))
    answered(store, chat_id, ("Three", "3", "stop"))
    assert turns(store, chat_id, "Four") == [
        ("system", "Be brief."),
        ("user", "One\n\nTwo\n\nThree"),
        ("assistant", "3"),
        ("user", "Four"),
    ]


# Where a reply goes, and what of the chat the model sees


def test_another_answer_is_a_sibling(store: ChatStore, engine: LocalEngine) -> None:
    chat_id = store.new_chat().id
    answered(store, chat_id, ("One", "1", "stop"), ("Two", "2", "stop"))
    first = store.branch(chat_id)[0]
    place = ReplyPlace(under=first.id)
    begun, *_ = stream_reply(store, engine, chat_id, GREEDY, place=place)
    assert isinstance(begun, Begun)
    assert (begun.message.parent_id, begun.message.sibling, begun.message.siblings) == (
        first.id,
        2,
        2,
    )
    prompt, reply = store.branch(chat_id)
    assert reply.content not in ("", "1")
    # What it was an answer to, and not what had come after that.
    assert reply.usage is not None
    assert reply.usage["prompt_tokens"] == engine.count_tokens(
        prompted(store.chat(chat_id), [prompt]).conversation
    )


def test_a_cut_reply_goes_on_beside_itself(store: ChatStore, engine: LocalEngine) -> None:
    chat_id = store.new_chat().id
    send_prompt(store, chat_id, "Tell me about the sea.")
    list(stream_reply(store, engine, chat_id, GREEDY))
    cut = store.branch(chat_id)[-1]
    assert cut.finish_reason == "length"
    place = ReplyPlace(continues=cut.id)
    begun, *events = stream_reply(store, engine, chat_id, GREEDY, place=place)
    assert isinstance(begun, Begun)
    assert begun.message.content == cut.content
    more = "".join(event.text for event in events if isinstance(event, TextDelta))
    longer = store.branch(chat_id)[-1]
    assert (longer.content, longer.parent_id) == (cut.content + more, cut.parent_id)
    assert store.message(cut.id) == replace(cut, siblings=2)
    assert longer.sampled is not None
    assert cut.sampled is not None
    assert longer.sampled.packed.startswith(cut.sampled.packed)
    assert len(longer.sampled) == 24


def test_what_a_reply_takes_the_place_of_is_what_it_may_repeat(
    store: ChatStore, starter_path: Path
) -> None:
    asked: list[GenerationRequest] = []

    class Listening(LocalEngine):
        def generate(self, request: GenerationRequest) -> Generator[GenerationEvent, None, None]:
            asked.append(request)
            return super().generate(request)

    def answered(place: ReplyPlace | None = None, sampling: Sampling = GREEDY) -> StoredMessage:
        list(stream_reply(store, engine, chat.id, sampling, place=place))
        return store.branch(chat.id)[-1]

    with closing(Listening(EngineOptions(starter_path, context=512))) as engine:
        chat = store.new_chat()
        prompt = send_prompt(store, chat.id, "Name a river.")
        first = answered()
        second = answered(ReplyPlace(under=prompt.id), replace(GREEDY, seed=3))
        answered(ReplyPlace(continues=second.id))
        send_prompt(store, chat.id, "Name a large river.", instead_of=prompt)
        answered()
    assert [request.likely for request in asked[:2]] == ["", first.content]
    # A reply that goes on cannot repeat what it has already.
    assert not second.content.startswith(asked[2].likely) or asked[2].likely == ""
    assert asked[3].likely.startswith(second.content)
    assert [request.exact for request in asked] == [False, True, False, False]
    assert all(request.sampling.seed is not None for request in asked), "none can be had again"


def test_a_continuation_that_fails_at_once_keeps_what_it_begins_with(
    store: ChatStore, starter_path: Path
) -> None:
    chat_id = store.new_chat(condition="<|im_end|>").id
    answered(store, chat_id, ("One", "1, 2, ", "cancelled"))
    engine = LocalEngine(EngineOptions(starter_path, context=512))
    place = ReplyPlace(continues=store.branch(chat_id)[-1].id)
    with pytest.raises(TemplateError):
        list(stream_reply(store, engine, chat_id, GREEDY, place=place))
    engine.close()
    assert [message.content for message in store.branch(chat_id)] == ["One", "1, 2, "]
    assert store.branch(chat_id)[-1].siblings == 2


def test_a_chat_that_outgrows_the_context_goes_on_without_its_oldest_turns(
    store: ChatStore, engine: LocalEngine
) -> None:
    chat_id = store.new_chat(system_prompt="Be brief.").id
    answered(store, chat_id, *((f"{n} " + "word " * 40, "reply " * 10, "stop") for n in range(20)))
    send_prompt(store, chat_id, "Say hello.")
    events = list(stream_reply(store, engine, chat_id, GREEDY))
    shortened = events[1]
    assert isinstance(shortened, Shortened)
    assert shortened.context == 512
    assert str(shortened.messages) in shortened.sentence()
    reply = store.branch(chat_id)[-1]
    assert reply.usage is not None
    seen = store.branch(chat_id)[shortened.messages : -1]
    assert seen[0].role == "user"
    assert reply.usage["prompt_tokens"] == engine.count_tokens(
        prompted(store.chat(chat_id), seen).conversation
    )
    with pytest.raises(ContextOverflow):
        list(stream_reply(store, engine, chat_id, GREEDY, overflow="refuse"))
