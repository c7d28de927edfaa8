"""Which chats are learned from; what is left out of them, and that private ones always are."""

from __future__ import annotations

import json
import os
import stat
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openchat_local.app.chats import ChatStore
from openchat_local.app.chats.drafts import ChatDraft, MessageDraft
from openchat_local.app.chats.read_only import ReadOnlyStore
from openchat_local.app.chats.votes import Side
from openchat_local.app.cli.main import main
from openchat_local.app.learning.extra_files import extra_rows
from openchat_local.app.learning.judgements import judged, judged_tally
from openchat_local.app.learning.rows_file import RowsFileError, write_lessons, write_pairs
from openchat_local.app.learning.rules import DEFAULT_RULES, rules_of
from openchat_local.app.learning.selecting import (
    LEAST_GOOD,
    LEAST_REPLIES,
    Selection,
    gather,
    left_out_in_words,
    offers,
    remarks,
    shortfall,
)
from openchat_local.app.settings.layers import SettingsError
from openchat_local.app.settings.model import Settings
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.examples import read_examples
from openchat_local.finetune.data.reading import PLAIN, Reading
from support.trees import put_into, trees

ALL = Selection()


@pytest.fixture
def store(home: Path) -> Iterator[ChatStore]:
    with_chats = ChatStore.open(home)
    yield with_chats
    with_chats.close()


def rated(store: ChatStore, *ratings: int | None, title: str = "", **fields: Any) -> str:
    """A chat of one branch whose replies have these ratings; its id."""
    chat = store.new_chat(title=title, **fields)
    parent = None
    for number, rating in enumerate(ratings):
        asked = store.add_message(chat.id, parent, "user", f"{title} question {number}")
        reply = store.add_message(chat.id, asked.id, "assistant", f"{title} answer {number}")
        store.rate(reply.id, rating)
        parent = reply.id
    return chat.id


def imported(store: ChatStore, origin: str | None, words: str = "Hello.") -> str:
    reply = MessageDraft("assistant", words, 0, {"rating": 1})
    draft = ChatDraft((MessageDraft("user", "Hi", None), reply), origin=origin)
    return store.add_chats([draft])[0].id


def ids(store: ChatStore, **asked: Any) -> set[str]:
    """The chats of a selection, which both ways of looking agree on."""
    selection = Selection(**asked)
    found = {offer.chat_id for offer in offers(store, selection, DEFAULT_RULES).offers}
    lessons = gather(store, selection, DEFAULT_RULES).lessons
    assert found == {lesson.chat_id for lesson in lessons}
    return found


def test_an_offer_counts_replies_by_class(store: ChatStore) -> None:
    chat = rated(store, None, 1, -1, None, title="Rome")
    rated(store, None, title="only asked")
    found = offers(store, ALL, DEFAULT_RULES)
    (offer,) = found.offers
    assert (offer.chat_id, offer.title) == (chat, "Rome")
    assert offer.counts == {"middle": 1, "expert": 1, "sub-optimal": 1}
    assert found.left_out == {"unjudged": 2, "nothing": 1}


def test_chats_are_chosen_by_time_tags_words_model_and_name(store: ChatStore) -> None:
    cook = rated(store, 1, title="Soup", tags=["cooking"])
    between = time.time()
    work = rated(store, 1, title="Report", tags=["work"])
    prompt = store.add_message(work, store.chat(work).leaf_id, "user", "And now?")
    reply = store.begin_reply(work, prompt.id, model="big")
    store.finish_reply(reply.id, "Now.", "stop")
    assert ids(store) == {cook, work}
    assert ids(store, since=between) == {work}
    assert ids(store, until=between) == {cook}
    assert ids(store, tags=frozenset({"cooking", "other"})) == {cook}
    assert ids(store, search="soup answ") == {cook}  # in one message
    assert ids(store, search="#work") == {work}
    assert ids(store, search="report cooking") == set()
    assert ids(store, search="...") == set()
    assert ids(store, model="big") == {work}
    assert ids(store, only=frozenset({cook})) == {cook}


def test_what_is_excluded_is_offered_and_not_gathered(store: ChatStore) -> None:
    chat = rated(store, 1)
    selection = Selection(excluded=frozenset({chat}))
    assert [offer.chat_id for offer in offers(store, selection, DEFAULT_RULES).offers] == [chat]
    found = gather(store, selection, DEFAULT_RULES)
    assert (found.lessons, found.left_out) == ((), {"excluded": 1})


def test_chats_of_other_programs_are_left_out_unless_asked_for(store: ChatStore) -> None:
    here, there = imported(store, None), imported(store, "ChatGPT")
    assert ids(store) == {here}
    assert offers(store, ALL, DEFAULT_RULES).left_out == {"imported": 1}
    assert ids(store, imported=True) == {here, there}


def test_a_chat_that_was_deleted_after_it_was_selected_is_counted(store: ChatStore) -> None:
    chat, hidden, gone, private = (rated(store, 1) for _ in range(4))
    selection = Selection(only=frozenset({chat, hidden, gone, private}))
    store.hide_chat(hidden)
    store.delete_chat(gone)
    store.set_private(private, True)
    found = gather(store, selection, DEFAULT_RULES)
    assert {lesson.chat_id for lesson in found.lessons} == {chat}
    assert found.left_out == {"deleted": 2, "private": 1}
    assert left_out_in_words(found.left_out) == [
        "1 private chat is never learned from.", "2 deleted chats are left out.",
    ]  # fmt: skip


def test_a_home_that_cannot_be_written_is_read(store: ChatStore, home: Path) -> None:
    chat = rated(store, 1)
    store.close()
    reader = ReadOnlyStore.open(home)
    assert ids(reader) == {chat}
    reader.close()


def test_more_chats_than_are_looked_up_one_by_one(store: ChatStore) -> None:
    reply = MessageDraft("assistant", "Yes.", 0, {"rating": 1})
    store.add_chats([ChatDraft((MessageDraft("user", "Hi", None), reply))] * 300)
    found = offers(store, ALL, DEFAULT_RULES).offers
    assert Counter(offer.counts["expert"] for offer in found) == {1: 300}


@given(
    made=st.lists(st.tuples(trees(8), st.sampled_from(("open", "private", "hidden"))), max_size=4)
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_word_of_a_private_or_deleted_chat_is_in_a_training_file(
    made: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("files")
    store = ChatStore.in_memory()
    told = Counter[str]()
    for number, (messages, kind) in enumerate(made):
        marked = [
            replace(each, content=f"{kind} {number}: {each.content}")
            if each.content.strip()
            else each
            for each in messages
        ]
        chat = put_into(store, marked, private=kind == "private")
        told[kind] += 1
        _vote_on_the_first_two(store, chat)
        if kind == "hidden":
            store.hide_chat(chat)
    found = gather(store, Selection(imported=True, cut_replies=True, thinking=True), DEFAULT_RULES)
    assert found.left_out.get("private", 0) == told["private"]
    assert found.left_out.get("deleted", 0) == told["hidden"]
    write_lessons(folder / "rows.jsonl", found.lessons)
    write_pairs(folder / "pairs.jsonl", found.pairs)
    text = (folder / "rows.jsonl").read_text("utf-8") + (folder / "pairs.jsonl").read_text("utf-8")
    assert "private " not in text
    assert "hidden " not in text
    # And the outlines tell of the other chats what their whole rows do.
    counts = {offer.chat_id: offer.counts for offer in offers(store, ALL, DEFAULT_RULES).offers}
    for outline in store.outlines(ALL.sieve):
        messages, tally = outline.messages, outline.tally
        if outline.private or outline.hidden:
            assert (tally, list(messages), outline.id in counts) == (None, [], False)
            continue
        whole = judged(store.messages(outline.id), outline.leaf_id)
        if tally is None:
            assert judged(messages, outline.leaf_id) == whole
        else:
            assert +Counter(judged_tally(tally)) == Counter(whole.values())
    # What is written is what `finetune` reads.
    for example in (
        read_examples(folder / "rows.jsonl", PLAIN, lambda _: None) if found.lessons else ()
    ):
        assert isinstance(example, Example), example
        assert example.class_name in {"expert", "middle", "sub-optimal"}
        assert any(weight != 0 for weight in example.reply_weights())
    store.close()


def _vote_on_the_first_two(store: ChatStore, chat_id: str) -> None:
    for message in store.messages(chat_id):
        replies = [each for each in store.children(message.id) if each.role == "assistant"]
        if len(replies) > 1:
            sides = Side("a", "m"), Side("b", "m")
            pair = replies[0].id, replies[1].id
            store.add_vote(chat_id, message.id, sides, pair, "second")
            return


def test_the_files_are_their_owners_and_never_written_over(
    store: ChatStore, tmp_path: Path
) -> None:
    rated(store, 1)
    found = gather(store, ALL, DEFAULT_RULES)
    path = tmp_path / "rows.jsonl"
    write_lessons(path, found.lessons)
    if os.name != "nt":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(RowsFileError, match="is there already"):
        write_lessons(path, found.lessons)
    with pytest.raises(RowsFileError, match="cannot be written"):
        write_pairs(tmp_path / "nowhere" / "pairs.jsonl", found.pairs)
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["rows.jsonl"]


def test_files_that_are_mixed_in_keep_their_classes(store: ChatStore, tmp_path: Path) -> None:
    rated(store, 1)
    mine, path = tmp_path / "mine.json", tmp_path / "rows.jsonl"
    row = {"prompt": "Hi", "completion": "Yo", "level": 4}
    mine.write_text(json.dumps([row, {"prompt": "Hi"}]))
    lessons = gather(store, ALL, DEFAULT_RULES).lessons
    with pytest.raises(Exception, match=r"value 2, completion: is missing"):
        write_lessons(path, lessons, extra_rows([mine], DEFAULT_RULES, Reading("level")))
    assert not path.exists()
    write_lessons(path, lessons, extra_rows([mine], DEFAULT_RULES, Reading("level"), skip_bad=True))
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert [line["class"] for line in lines] == ["expert", "4"]


def test_too_little_is_told_with_how_much_is_missing(store: ChatStore) -> None:
    def missing() -> str | None:
        return shortfall(gather(store, ALL, DEFAULT_RULES).lessons)

    assert "There is no reply to learn from yet" in str(missing())
    rated(store, 1, 1, -1)
    assert f"and {LEAST_GOOD} are needed: rate or edit {LEAST_GOOD - 2} more" in str(missing())
    rated(store, *[1] * (LEAST_GOOD - 2), title="more")
    assert f"rate or edit {LEAST_REPLIES - LEAST_GOOD - 1} more" in str(missing())
    rated(store, *[-1] * LEAST_REPLIES, title="bad")
    assert missing() is None
    assert remarks(gather(store, ALL, DEFAULT_RULES).lessons) == []


def test_one_class_and_contradictions_are_told(store: ChatStore) -> None:
    rated(store, *[1] * LEAST_REPLIES)
    lessons = gather(store, ALL, DEFAULT_RULES).lessons
    assert shortfall(lessons) is None
    assert "All replies are of one class (expert)" in remarks(lessons)[0]
    # The same prompts, and word for word the same answers, rated bad.
    rated(store, -1)
    assert (
        "1 reply is rated both good and bad"
        in remarks(gather(store, ALL, DEFAULT_RULES).lessons)[0]
    )
    rated(store, *[-1] * LEAST_REPLIES)
    said = str(shortfall(gather(store, ALL, DEFAULT_RULES).lessons))
    assert f"Every reply that is rated good ({LEAST_REPLIES}) was rated bad as well" in said


def test_the_rules_are_settings() -> None:
    changed = Settings.model_validate(
        {"learning": {"left": "middle", "replaced": "nothing", "middle": {"reward": 0.5}}}
    )
    rules = rules_of(changed)
    assert [rule.class_name for rule in rules.table.values()] == [
        "expert", "expert", "middle", "middle", "sub-optimal", None,
    ]  # fmt: skip
    assert [(rule.condition, rule.reward) for rule in rules.classes] == [
        (None, 1.0), ("Unrated", 0.5), ("GPT3", 0.1),
    ]  # fmt: skip
    wrong = Settings.model_validate({"learning": {"suboptimal": {"reward": 2}}})
    with pytest.raises(SettingsError, match=r"learning\.suboptimal\.reward is 2, more than"):
        rules_of(wrong)
    none = Settings.model_validate({"learning": {"suboptimal": {"reward": 0}}})
    assert [rule.class_name for rule in rules_of(none).classes] == ["expert", "middle"]


# The command


def export(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = main(["history", "export", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_history_export_writes_rows_and_pairs(
    capsys: pytest.CaptureFixture[str], store: ChatStore, tmp_path: Path
) -> None:
    rated(store, None, 1, title="Rome", tags=["travel"], system_prompt="Be brief.")
    private = rated(store, 1, title="secret")
    store.set_private(private, True)
    prompt = store.add_message(store.new_chat(title="Two").id, None, "user", "Which?")
    for words, rating in (("this", -1), ("that", 1)):
        reply = store.add_message(prompt.chat_id, prompt.id, "assistant", words)
        store.rate(reply.id, rating)
    rows, pairs = tmp_path / "rows.jsonl", tmp_path / "pairs.jsonl"
    status, out, err = export(capsys, "--for-training", rows, "--pairs", pairs)
    assert (status, "4 rows with 4 replies to learn" in out, "1 pair of" in out) == (0, True, True)
    assert "1 private chat is never learned from." in err
    assert "secret" not in rows.read_text("utf-8")
    assert [json.loads(line) for line in pairs.read_text("utf-8").splitlines()] == [
        {
            "prompt": [{"role": "user", "content": "Which?"}],
            "chosen": [{"role": "assistant", "content": "that"}],
            "rejected": [{"role": "assistant", "content": "this"}],
        }
    ]
    status, _, _ = export(capsys, "--for-training", tmp_path / "few.jsonl", "--tag", "travel")
    lines = [json.loads(each) for each in (tmp_path / "few.jsonl").read_text("utf-8").splitlines()]
    assert lines[0] == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Rome question 0"},
            {"role": "assistant", "content": "Rome answer 0", "weight": 0.0},
            {"role": "user", "content": "Rome question 1"},
            {"role": "assistant", "content": "Rome answer 1"},
        ],
        "class": "expert",
        "reward": 1.0,
    }
    assert (lines[1]["class"], lines[1]["condition"], lines[1]["reward"]) == (
        "middle",
        "Unrated",
        0.3,
    )


def test_history_export_refuses_what_makes_no_sense(
    capsys: pytest.CaptureFixture[str], store: ChatStore, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    assert "no reply to learn from" in export(capsys, "--for-training", rows)[2]
    private = rated(store, 1)
    store.set_private(private, True)
    for arguments in (("-f", "jsonl", private), ("--for-training", rows, private)):
        status, out, err = export(capsys, *arguments)
        assert (status, out, "private" in err, rows.exists()) == (1, "", True, False)
    rated(store, 1)
    assert "--pairs" in export(capsys, "--since", "3")[2]
    assert "choose two" in export(capsys, "--for-training", rows, "--pairs", rows)[2]
    assert "--format is for one chat" in export(capsys, "--for-training", rows, "-f", "json")[2]
    assert "of which one is better" in export(capsys, "--pairs", rows)[2]
    for when in ("yesterday", "nan", "-1", "9999999"):
        assert "--since" in export(capsys, "--for-training", rows, f"--since={when}")[2]
    assert not rows.exists()
    assert export(capsys, "--for-training", rows, "--since=1", "--until=9999-12-30")[0] == 0
    assert "is there already" in export(capsys, "--for-training", rows)[2]
