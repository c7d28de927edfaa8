"""Rows against the ratings: every reply is learned once, as what its owner made of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.chats import StoredMessage
from openchat_local.app.chats.thoughts import without_thoughts
from openchat_local.app.learning.feedback import (
    chat_lessons,
    judged,
    lessons,
    pairs,
)
from openchat_local.app.learning.fitting import LONGEST_ROW
from openchat_local.app.learning.rules import (
    DEFAULT_RULES,
    FeedbackRules,
    Judgement,
    Rule,
)
from support.trees import a_chat, trees
from support.turns import alternating, turn

EVERYTHING = FeedbackRules(
    {
        judgement: Rule(name, "Condition", reward)
        for judgement, name, reward in (
            (Judgement.EDITED, "a", 3.0),
            (Judgement.LIKED, "b", 2.0),
            (Judgement.CONTINUED, "b", 2.0),
            (Judgement.LEFT, "c", 1.0),
            (Judgement.DISLIKED, "d", 0.5),
            (Judgement.REPLACED, "d", 0.5),
        )
    }
)
RULES = st.sampled_from((DEFAULT_RULES, EVERYTHING))


def of_one_prompt(*replies: dict[str, Any], **more: Any) -> list[StoredMessage]:
    """A prompt m0 and its replies m1, m2…, each with other words."""
    made = [
        turn(n, "assistant", f"reply {n}", **{"parent_id": "m0"} | fields)
        for n, fields in enumerate(replies, 1)
    ]
    return [turn(0, "user", "Hi", parent_id=None), *made, *more.get("then", ())]


def judgements(messages: list[StoredMessage], leaf_id: str | None = None) -> list[str]:
    return [str(each) for each in judged(messages, leaf_id).values()]


def prompt_under(number: int, parent: str) -> StoredMessage:
    return turn(number, "user", "And?", parent_id=parent)


def test_a_rating_or_an_edit_says_it_all() -> None:
    said = of_one_prompt(
        {"rating": 1}, {"rating": -1}, {"edited": True}, {"edited": True, "rating": -1}
    )
    assert judgements(said) == ["liked", "disliked", "edited", "disliked"]


def test_an_unrated_reply_is_what_came_of_it() -> None:
    assert judgements(alternating(["Hi", "one", "more", "two"])) == ["continued", "left"]
    # Another version was asked for; the chat went on from that one, or from the old one.
    assert judgements(of_one_prompt({}, {})) == ["replaced", "left"]
    assert judgements(of_one_prompt({}, {}, then=[prompt_under(3, "m2")])) == [
        "replaced",
        "continued",
    ]
    assert judgements(of_one_prompt({}, {}, then=[prompt_under(3, "m1")])) == [
        "continued",
        "replaced",
    ]
    # What went on before another version was asked for was good enough to go on from.
    before = [*of_one_prompt({}), prompt_under(2, "m1"), turn(3, "assistant", "x", parent_id="m0")]
    assert judgements(before) == ["continued", "left"]
    # Nothing is known of the version that somebody came back to.
    assert judgements(of_one_prompt({}, {}), leaf_id="m1") == ["left", "left"]


def test_an_edit_takes_the_place_of_what_it_came_from() -> None:
    assert judgements(of_one_prompt({}, {"edited": True})) == ["replaced", "edited"]
    assert judgements(of_one_prompt({"rating": 1}, {"edited": True})) == ["liked", "edited"]
    # Also where the chat had gone on before, and where somebody looks at the old one.
    gone_on = [*of_one_prompt({}), prompt_under(2, "m1"),
               turn(3, "assistant", "better", parent_id="m0", edited=True)]  # fmt: skip
    assert judgements(gone_on, leaf_id="m2") == ["replaced", "edited"]
    # An edit that was disliked is no better.
    assert judgements(of_one_prompt({}, {"edited": True, "rating": -1})) == ["left", "disliked"]


def test_a_blind_vote_says_which_of_two_is_better() -> None:
    assert judgements(of_one_prompt({"vote": "chosen"}, {"vote": "other"})) == [
        "continued",
        "replaced",
    ]
    # Nothing was said, or neither was preferred: the later one replaces nothing.
    for outcome in ("tie", "skip", "unvoted"):
        both = {"vote": outcome}
        assert judgements(of_one_prompt(both, both)) == ["left", "left"]
        # But another one that was asked for then does.
        assert judgements(of_one_prompt(both, both, {})) == ["replaced", "replaced", "left"]


def test_a_version_that_never_came_replaces_nothing() -> None:
    for end in ("cancelled", "engine died", "refused", "length"):
        assert judgements(of_one_prompt({}, {"finish_reason": end}))[0] == "left"
    assert judgements(of_one_prompt({}, {"finish_reason": None})) == ["left"]


def test_the_liked_one_of_two_is_good_also_where_it_was_left() -> None:
    rows = lessons(a_chat(), of_one_prompt({"rating": 1}, {}), DEFAULT_RULES)
    assert [(row.class_name, row.condition, row.reward) for row in rows] == [("expert", None, 1.0)]
    assert [turn.content for turn in rows[0].turns] == ["Hi", "reply 1"]


def test_a_long_chat_is_a_row_for_each_class_with_the_rest_as_context() -> None:
    said = alternating(["a", "A", "b", "B", "c", "C", "d", "D"])
    said[3] = turn(3, "assistant", "B", rating=1)
    said[5] = turn(5, "assistant", "C", rating=-1)
    rows = lessons(a_chat(system_prompt="Be brief."), said, DEFAULT_RULES)
    weights = [
        (r.class_name, r.reward, [t.weight for t in r.turns if t.role == "assistant"]) for r in rows
    ]
    assert weights == [
        ("expert", 1.0, [0.0, None]),
        ("middle", 0.3, [None]),
        ("sub-optimal", 0.1, [0.0, 0.0, None]),
    ]
    assert {row.system_prompt for row in rows} == {"Be brief."}
    assert list(rows[2].judgements.values()) == ["continued", "liked", "disliked"]


def test_a_version_that_says_the_same_was_not_disliked() -> None:
    said = [
        turn(0, "user", "Hi", parent_id=None),
        turn(1, "assistant", "Yes, and", parent_id="m0", finish_reason="length"),
        turn(2, "assistant", "Yes.", parent_id="m0"),
        turn(3, "assistant", "Yes. ", parent_id="m0"),
        turn(4, "assistant", "Yes, and more.", parent_id="m0", rating=1),
        turn(5, "user", "And?", parent_id="m3"),
    ]
    found = chat_lessons(a_chat(), said, DEFAULT_RULES, cut_replies=True)
    learned = [turn.message_id for row in found.lessons for turn in row.learned]
    assert learned == ["m4", "m3"]
    assert found.left_out == {"repeated": 2}


def test_replies_that_were_cut_are_context_unless_asked_for() -> None:
    said = alternating(["a", "Half a", "b", "Whole."])
    said[1] = turn(1, "assistant", "Half a", finish_reason="length", rating=1)
    said[3] = turn(3, "assistant", "Whole.", rating=1)
    found = chat_lessons(a_chat(), said, DEFAULT_RULES)
    assert [turn.weight for turn in found.lessons[0].turns] == [0.0, 0.0, 0.0, None]
    assert found.left_out == {"cut": 1}
    found = chat_lessons(a_chat(), said, DEFAULT_RULES, cut_replies=True)
    assert [turn.weight for turn in found.lessons[0].turns] == [0.0, None, 0.0, None]


def test_an_empty_reply_is_no_turn_and_prompts_around_it_become_one() -> None:
    said = alternating(["a", "", "b", "B"])
    said[1] = turn(1, "assistant", "", finish_reason="engine died")
    said[3] = turn(3, "assistant", "B", rating=1)
    (row,) = lessons(a_chat(), said, DEFAULT_RULES)
    assert [(t.role, t.content) for t in row.turns] == [("user", "a\n\nb"), ("assistant", "B")]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>\nHm.\n</think>\n\nYes.", "Yes."),
        (" <think></think>Yes.", "Yes."),
        ("Hm. <b>\n\n</think>\n\nYes.", "Yes."),  # the template had opened them
        ("<think>and then it broke", ""),
        ("Write `<think>` and `</think>` around it.", None),
        ("No.\n\n```\n<think>\n</think>\n```", None),
        ("Yes.", None),
    ],
)
def test_thoughts_open_a_reply(text: str, answer: str | None) -> None:
    assert without_thoughts(text) == (text if answer is None else answer)


def test_thoughts_are_left_out_unless_asked_for() -> None:
    said = alternating(["a", "<think>Hm.</think>A", "b", "<think>Hm.</think>B"])
    said[3] = turn(3, "assistant", said[3].content, rating=1)
    found = chat_lessons(a_chat(), said, DEFAULT_RULES)
    assert [turn.content for turn in found.lessons[0].turns] == ["a", "A", "b", "B"]
    assert found.left_out == {"thinking": 2}
    whole = chat_lessons(a_chat(), said, DEFAULT_RULES, thinking=True)
    assert whole.lessons[0].turns[3].content == "<think>Hm.</think>B"
    assert whole.left_out == {}


def test_a_long_chat_is_several_rows_none_of_which_is_too_long() -> None:
    said = alternating(
        ["a" * 9, "A" * 9, "b" * 9, "B" * 9, "c" * 9, "C" * 9, "日本語" * 40, "D" * 9]
    )
    rated = [replace(each, rating=1) if each.role == "assistant" else each for each in said]
    rows = chat_lessons(a_chat(), rated, DEFAULT_RULES, longest=40).lessons
    told = [[(turn.content[0], turn.weight) for turn in row.turns] for row in rows]
    assert told == [
        [("a", 0.0), ("A", None), ("b", 0.0), ("B", None)],
        [("b", 0.0), ("B", 0.0), ("c", 0.0), ("C", None)],
        [("日", 0.0), ("D", None)],  # a single exchange stays whole
    ]


def test_the_better_of_two_versions_is_chosen() -> None:
    said = of_one_prompt(
        {"rating": -1}, {}, {"rating": 1}, {"edited": True}, then=[prompt_under(5, "m2")]
    )
    found = pairs(a_chat(system_prompt="Be brief."), said)
    assert [(pair.chosen.content, pair.rejected.content) for pair in found] == [
        ("reply 2", "reply 1"), ("reply 3", "reply 1"), ("reply 3", "reply 2"),
        ("reply 4", "reply 1"), ("reply 4", "reply 2"),
    ]  # fmt: skip
    assert found[0].system_prompt == "Be brief."
    assert [turn.content for turn in found[0].turns] == ["Hi"]


def test_the_same_words_are_no_pair() -> None:
    said = of_one_prompt({"rating": -1}, {"rating": 1})
    said[2] = turn(2, "assistant", "reply 1", parent_id="m0", rating=1)
    assert pairs(a_chat(), said) == []


@given(trees(), RULES, st.booleans(), st.data())
def test_each_learned_reply_is_learned_once_under_its_own_class(
    messages: list[StoredMessage], rules: FeedbackRules, cut: bool, data: st.DataObject
) -> None:
    longest = data.draw(st.sampled_from((LONGEST_ROW, 0, 20, 40)))
    leaf = data.draw(st.sampled_from([None, *(message.id for message in messages)]))
    found = chat_lessons(a_chat(leaf_id=leaf), messages, rules, cut_replies=cut, longest=longest)
    said = judged(messages, leaf)
    by_id = {message.id: message for message in messages}

    learned = Counter(turn.message_id for row in found.lessons for turn in row.learned)
    assert set(learned.values()) <= {1}
    for row in found.lessons:
        rule = {rules[said[turn.message_id]] for turn in row.learned}
        assert rule == {Rule(row.class_name, row.condition, row.reward)}
        # The last turn is learned, no prompt is, and nothing learned is empty.
        assert row.turns[-1].weight is None
        assert all(turn.role == "assistant" and turn.content.strip() for turn in row.learned)
        assert all(turn.weight == 0 for turn in row.turns if turn.role != "assistant")
        # The turns are a path: what stands before a reply is what it answered.
        path, above = [], by_id[row.turns[-1].message_id]
        while above is not None:
            path.append(above.id)
            above = by_id.get(above.parent_id or "")
        places = [path[::-1].index(turn.message_id) for turn in row.turns]
        assert places == sorted(set(places))
        # Of a row that is short enough all of it is there, and of any other a whole exchange.
        size = sum(len(turn.content) for turn in row.turns)
        assert size <= longest or [turn.role for turn in row.turns].count("user") == 1
        texts = "\n".join(turn.content for turn in row.turns)
        assert longest < LONGEST_ROW or all(
            by_id[id].content in texts
            for id in path
            if by_id[id].role == "user" and not _only_refused(messages, path, id)
        )
        assert set(row.judgements) == {turn.message_id for turn in row.turns} & said.keys()

    for message in messages:
        if message.id in learned or message.role != "assistant":
            continue
        whole = message.finish_reason == "stop" or (cut and message.finish_reason is not None)
        kept = {
            without_thoughts(other.content).strip()
            for other in messages
            if other.parent_id == message.parent_id
            and said.get(other.id, Judgement.REPLACED) is not Judgement.REPLACED
        }
        words = without_thoughts(message.content).strip()
        assert (
            not whole
            or not words
            or not rules[said[message.id]].teaches
            or (said[message.id] is Judgement.REPLACED and any(k.startswith(words) for k in kept))
        )


def _only_refused(messages: list[StoredMessage], path: list[str], prompt: str) -> bool:
    """Whether a prompt on a path was refused and followed by another: the model never saw it."""
    by_id = {message.id: message for message in messages}
    replies = [id for id in path if by_id[id].parent_id == prompt]
    return any(by_id[id].finish_reason == "refused" for id in replies)


@given(trees())
def test_pairs_are_versions_of_one_prompt_in_the_order_of_their_judgements(
    messages: list[StoredMessage],
) -> None:
    said = judged(messages)
    by_id = {message.id: message for message in messages}
    good = {Judgement.EDITED, Judgement.LIKED}
    bad = {Judgement.DISLIKED, Judgement.REPLACED}
    for pair in pairs(a_chat(), messages):
        chosen, rejected = by_id[pair.chosen.message_id], by_id[pair.rejected.message_id]
        assert chosen.parent_id == rejected.parent_id
        assert chosen.finish_reason == rejected.finish_reason == "stop"
        assert said[chosen.id] in good or said[rejected.id] in bad
        assert said[chosen.id] not in bad and said[rejected.id] not in good  # noqa: PT018
        assert pair.turns[-1].role == "user"
