"""A stored chat goes to the engine as the token ids that its replies were written with."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore
from openchat_local.app.chats.formats import export_chat, import_file
from openchat_local.app.replies.prompt import unsent_prompt
from openchat_local.app.replies.stream import (
    ReplyPlace,
    refuse_if_too_long,
    send_prompt,
    stream_reply,
)
from openchat_local.models.conversation import Conversation, Message, SampledIds
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions, Finished, Sampling, Usage
from openchat_local.models.errors import DoesNotFit
from openchat_local.models.template.vocabulary import Vocabulary
from support.openchat_gguf import openchat_vocabulary, write_model
from support.wiretap import Wiretap

STORY = "Once upon a time there was a small river that wanted to be the sea. " * 10
BEGUN = "The small river wanted to be"
GREEDY = Sampling(temperature=0.0, max_tokens=12)


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    store = ChatStore.open(home)
    yield store
    store.close()


@pytest.fixture(scope="module")
def engine(starter_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(EngineOptions(starter_path, context=1024))
    yield engine
    engine.close()


@pytest.fixture
def vocabulary(vocabulary_of: Callable[[str], Vocabulary]) -> Vocabulary:
    return vocabulary_of("starter")


def written(store: ChatStore, vocabulary: Vocabulary) -> str:
    """A chat whose reply was cut, and has ids that no tokenizer would choose: a character at a
    time. Its id."""
    ids = [id for each in BEGUN for id in vocabulary.tokenize_content(each)]
    assert ids != vocabulary.tokenize_content(BEGUN)
    chat_id = store.new_chat().id
    prompt = send_prompt(store, chat_id, STORY)
    cut = store.begin_reply(chat_id, prompt.id, model="starter")
    sampled = SampledIds.of(ids, vocabulary.fingerprint)
    store.finish_reply(cut.id, BEGUN, "length", sampled=sampled)
    return chat_id


def told(store: ChatStore, engine: LocalEngine, vocabulary: Vocabulary) -> str:
    """The same, and the reply has been gone on from. Its id."""
    chat_id = written(store, vocabulary)
    cut = store.branch(chat_id)[-1]
    answer(store, engine, chat_id, ReplyPlace(continues=cut.id))
    longer = store.branch(chat_id)[-1]
    assert longer.sampled is not None
    assert cut.sampled is not None
    assert longer.sampled.packed.startswith(cut.sampled.packed)
    assert longer.sampled.vocabulary == vocabulary.fingerprint
    return chat_id


def answer(
    store: ChatStore, engine: LocalEngine, chat_id: str, place: ReplyPlace | None = None
) -> Usage:
    *_, finished = stream_reply(store, engine, chat_id, GREEDY, place=place)
    assert isinstance(finished, Finished)
    return finished.usage


def held(store: ChatStore, chat_id: str) -> int:
    """How many tokens the engine holds of a chat that it has answered: the prompt, and the
    reply but for the last token, which was drawn and never read."""
    reply = store.branch(chat_id)[-1]
    assert reply.usage is not None
    assert reply.sampled is not None
    return int(reply.usage["prompt_tokens"]) + reply.usage["generated_tokens"] - 1


def test_the_next_turn_reads_nothing_again(
    store: ChatStore, engine: LocalEngine, vocabulary: Vocabulary
) -> None:
    chat_id = told(store, engine, vocabulary)
    before = held(store, chat_id)
    send_prompt(store, chat_id, "And then?")
    usage = answer(store, engine, chat_id)
    assert usage.reused_tokens >= before
    # Another answer to the same prompt reads its last token alone.
    prompt = store.branch(chat_id)[-2]
    again = answer(store, engine, chat_id, ReplyPlace(under=prompt.id))
    assert (again.prompt_tokens, again.evaluated_tokens) == (usage.prompt_tokens, 1)


def test_a_chat_is_found_again_after_the_engine_and_the_program_were_killed(
    store: ChatStore, home: Path, starter_path: Path, vocabulary: Vocabulary
) -> None:
    options = EngineOptions(starter_path, context=1024, states_dir=home / "states")
    with closing(LocalEngine(options)) as engine:
        chat_id = told(store, engine, vocabulary)
        before = held(store, chat_id)
        engine.leave(chat_id)
        until(lambda: list((home / "states").glob("*.json")))
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
    # Nothing is left of the first run but what lies on the disk.
    with closing(ChatStore.open(home)) as reopened, closing(LocalEngine(options)) as engine:
        send_prompt(reopened, chat_id, "And then?")
        usage = answer(reopened, engine, chat_id)
    assert usage.restored_tokens == usage.reused_tokens >= before
    assert usage.evaluated_tokens == usage.prompt_tokens - usage.reused_tokens < 16


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.01)


def test_replies_from_before_their_vocabulary_was_noted_are_used(
    store: ChatStore, engine: LocalEngine, vocabulary: Vocabulary
) -> None:
    chat_id = written(store, vocabulary)
    rendered = engine.render(unsent_prompt(store, chat_id, "More").conversation)
    with store._database.writing() as connection:
        connection.execute("UPDATE messages SET vocabulary = NULL")
    assert store.branch(chat_id)[-1].sampled is not None
    assert engine.render(unsent_prompt(store, chat_id, "More").conversation) == rendered


def test_an_edited_reply_is_tokenised(
    store: ChatStore, engine: LocalEngine, vocabulary: Vocabulary
) -> None:
    chat_id = written(store, vocabulary)
    prompt, reply = store.branch(chat_id)
    edited = store.add_message(chat_id, prompt.id, "assistant", reply.content + "!", edited=True)
    assert edited.sampled is None
    assert store.message(reply.id).sampled == reply.sampled, "each version keeps its own"

    # Also where another program has changed the text beneath its ids.
    with store._database.writing() as connection:
        sql = "UPDATE messages SET content = ? WHERE id = ?"
        connection.execute(sql, (edited.content, reply.id))
    changed = engine.render(unsent_prompt(store, chat_id, "More").conversation)
    store.show_leaf(chat_id, reply.id)
    assert store.branch(chat_id)[-1].sampled == reply.sampled
    assert engine.render(unsent_prompt(store, chat_id, "More").conversation) == changed


def test_an_imported_chat_is_the_sequence_that_was_written(
    store: ChatStore,
    tmp_path: Path,
    engine: LocalEngine,
    vocabulary: Vocabulary,
) -> None:
    chat_id = told(store, engine, vocabulary)
    file = tmp_path / "chat.json"
    file.write_text(export_chat(store, chat_id, "json"), "utf-8")
    with closing(ChatStore.open(tmp_path / "elsewhere")) as elsewhere:
        (copy,) = import_file(elsewhere, file).chats
        send_prompt(elsewhere, copy.id, "And then?")
        usage = answer(elsewhere, engine, copy.id)
    assert usage.reused_tokens >= held(store, chat_id)


# How often a conversation crosses


@pytest.mark.skipif(os.name == "nt", reason="a shell stands in between")
def test_a_prompt_is_sent_to_the_engine_once(
    store: ChatStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_model(
        tmp_path / "tiny.gguf", openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1
    )
    tap = Wiretap(tmp_path, monkeypatch)
    with closing(LocalEngine(EngineOptions(path, context=512))) as engine:
        chat_id = store.new_chat().id
        for prompt in ("Hello!", "And again?"):
            unsent = unsent_prompt(store, chat_id, prompt).conversation
            refuse_if_too_long(engine, unsent, GREEDY, "drop-oldest")
            send_prompt(store, chat_id, prompt)
            answer(store, engine, chat_id)
        long = Conversation((Message("user", "word " * 600),))
        with pytest.raises(DoesNotFit):
            refuse_if_too_long(engine, long, GREEDY, "drop-oldest")
    # Where the size of the texts leaves a doubt, it is the engine's to settle.
    assert [frame["do"] for frame in tap.frames()] == ["load", "generate", "generate", "fit"]
