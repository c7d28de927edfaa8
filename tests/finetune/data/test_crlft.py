"""C-RLFT: conditions and rewards of classes, the weight of every token, and the loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openchat_local.finetune.data.batches import Row, build_batch
from openchat_local.finetune.data.crlft import step_loss, weigh
from openchat_local.finetune.data.example import Example
from openchat_local.finetune.data.policy import ClassRule, Decision, Policy, decide_policy
from openchat_local.finetune.data.survey import ClassCount
from openchat_local.models.conversation import Message
from openchat_local.models.gguf import read_gguf
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import Vocabulary

TemplateOf = Callable[[str], Template]

GPT4 = ClassRule("gpt4", "GPT4 Correct", 1.0)
GPT35 = ClassRule("gpt35", "GPT3", 0.1)
POLICY = Policy((GPT4, GPT35))


def example(
    *turns: tuple[str, str] | tuple[str, str, float | None],
    class_name: str = "gpt4",
    reward: float | None = None,
) -> Example:
    messages = tuple(Message(turn[0], turn[1]) for turn in turns)  # type: ignore[arg-type]
    weights = tuple(turn[2] if len(turn) > 2 else None for turn in turns)
    return Example(1, "OpenAI messages", messages, weights, class_name, reward=reward)


def weighted(template: Template, given: Example, context: int = 4096) -> list[tuple[str, float]]:
    """The row as (text, weight), neighbours of one weight joined."""
    row = weigh(given, POLICY, template, context).row
    assert row is not None
    runs: list[tuple[list[int], float]] = []
    for id, weight in zip(row.ids.tolist(), row.weights.tolist(), strict=True):
        if not runs or runs[-1][1] != weight:
            runs.append(([], weight))
        runs[-1][0].append(id)
    return [
        (template.vocabulary.detokenize(ids).decode(), round(weight, 6)) for ids, weight in runs
    ]


# Weights. The texts are worked by hand from the reference's rule: an assistant's content and
# its end of turn have the weight, all else has none, and the row ends with its last weight.

TURNS = (("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "So?"),
         ("assistant", "Yes"))  # fmt: skip
HEAD_3 = "<|start_header_id|>{}<|end_header_id|>\n\n"
ROWS = {
    "openchat-3.2": [
        (("<s> Be brief.<|end_of_turn|> GPT4 Correct User: Hi<|end_of_turn|>"
         " GPT4 Correct Assistant:"), 0), (" Hello<|end_of_turn|>", 1),
        (" GPT4 Correct User: So?<|end_of_turn|> GPT4 Correct Assistant:", 0),
        (" Yes<|end_of_turn|>", 1),
    ],
    "openchat-3.6": [
        ("<|begin_of_text|>" + HEAD_3.format("System") + "Be brief.<|eot_id|>"
         + HEAD_3.format("GPT4 Correct User") + "Hi<|eot_id|>"
         + HEAD_3.format("GPT4 Correct Assistant"), 0), ("Hello<|eot_id|>", 1),
        (HEAD_3.format("GPT4 Correct User") + "So?<|eot_id|>"
         + HEAD_3.format("GPT4 Correct Assistant"), 0), ("Yes<|eot_id|>", 1),
    ],
    "chatml": [
        (("<s><|im_start|> system\nBe brief.<|im_end|> \n<|im_start|> GPT4 Correct user\nHi"
         "<|im_end|> \n<|im_start|> GPT4 Correct assistant\n"), 0), ("Hello<|im_end|>", 1),
        ((" \n<|im_start|> GPT4 Correct user\nSo?<|im_end|> \n"
         "<|im_start|> GPT4 Correct assistant\n"), 0), ("Yes<|im_end|>", 1),
    ],
    "starter": [
        (("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>GPT4 Correct user\nHi"
         "<|im_end|>\n<|im_start|>GPT4 Correct assistant\n"), 0), ("Hello<|im_end|>", 1),
        (("\n<|im_start|>GPT4 Correct user\nSo?<|im_end|>\n"
         "<|im_start|>GPT4 Correct assistant\n"), 0), ("Yes<|im_end|>", 1),
    ],
    "gemma": [
        (("<bos><start_of_turn>GPT4 Correct user\nBe brief.\n\nHi<end_of_turn>\n"
         "<start_of_turn>GPT4 Correct model\n"), 0), ("Hello<end_of_turn>", 1),
        (("\n<start_of_turn>GPT4 Correct user\nSo?<end_of_turn>\n"
         "<start_of_turn>GPT4 Correct model\n"), 0), ("Yes<end_of_turn>", 1),
    ],
    "zephyr": [
        (("<s> <|system|>\nBe brief.</s> \n<|GPT4 Correct user|>\nHi</s> \n"
         "<|GPT4 Correct assistant|>\n"), 0), ("Hello</s>", 1),
        (" \n<|GPT4 Correct user|>\nSo?</s> \n<|GPT4 Correct assistant|>\n", 0), ("Yes</s>", 1),
    ],
}  # fmt: skip
ROWS["openchat-3.5"] = ROWS["openchat-3.2"]
ROWS["llama-3"] = [
    (text.replace("System", "system").replace("User", "user").replace("Assistant", "assistant"), w)
    for text, w in ROWS["openchat-3.6"]
]
every_family = pytest.mark.parametrize("family", sorted(ROWS))


@every_family
def test_only_replies_and_their_ends_have_weight(family: str, template_of: TemplateOf) -> None:
    assert weighted(template_of(family), example(*TURNS)) == ROWS[family]


@every_family
def test_a_row_is_the_prompt_that_chat_would_send(family: str, template_of: TemplateOf) -> None:
    from openchat_local.models.conversation import Conversation

    template = template_of(family)
    given = example(*TURNS)
    row = weigh(given, POLICY, template, 4096).row
    assert row is not None
    asked = template.render(Conversation(given.messages[:-1], "GPT4 Correct"), generate=True).ids
    assert row.ids[: len(asked)].tolist() == asked
    assert row.ids.dtype == np.int32
    assert row.weights.dtype == np.float32
    assert row.weights[0] == 0


@every_family
def test_a_turn_of_weight_0_is_context_only(family: str, template_of: TemplateOf) -> None:
    turns = (*TURNS[:2], ("assistant", "Hello", 0.0), *TURNS[3:])
    before, hello, between, yes = ROWS[family]
    joined = before[0] + hello[0] + between[0]
    assert weighted(template_of(family), example(*turns)) == [(joined, 0), yes]


@every_family
def test_the_row_ends_with_its_last_weight(family: str, template_of: TemplateOf) -> None:
    turns = (*TURNS[:4], ("assistant", "Yes", 0.0))
    assert weighted(template_of(family), example(*turns)) == ROWS[family][:2]


@every_family
def test_of_an_empty_reply_the_end_is_learned(family: str, template_of: TemplateOf) -> None:
    template = template_of(family)
    runs = weighted(template, example(("user", "Hi"), ("assistant", "")))
    (end,) = template.vocabulary.tokenize_template(runs[-1][0])
    assert end in template.stop_ids
    assert runs[-1][1] == 1


def test_published_ids_of_openchat_3_5_and_their_weights(template_of: TemplateOf) -> None:
    turns = (("user", "Hello"), ("assistant", "Hi"), ("user", "How are you today?"),
             ("assistant", "Hello"))  # fmt: skip
    row = weigh(example(*turns), POLICY, template_of("openchat-3.5"), 4096).row
    assert row is not None
    user, assistant = [420, 6316, 28781, 3198, 3123, 1247, 28747], [
        420, 6316, 28781, 3198, 3123, 21631, 28747]  # fmt: skip
    pieces = [
        ([1, *user, 22557, 32000, *assistant], 0.0),
        ([15359, 32000], 1.0),
        ([*user, 1602, 460, 368, 3154, 28804, 32000, *assistant], 0.0),
        ([22557, 32000], 1.0),
    ]
    assert row.ids.tolist() == [id for ids, _ in pieces for id in ids]
    assert row.weights.tolist() == [weight for ids, weight in pieces for _ in ids]


def test_a_default_system_prompt_has_no_weight(template_of: TemplateOf) -> None:
    # Its message number is -1, which must not be taken for the last turn, a reply.
    runs = weighted(template_of("starter"), example(("user", "Hi"), ("assistant", "Hello")))
    assert [weight for _, weight in runs] == [0, 1]
    assert "SmolLM" in runs[0][0]


def test_own_weight_beats_reward_beats_class(template_of: TemplateOf) -> None:
    template = template_of("openchat-3.5")
    turns = (("user", "a"), ("assistant", "b", 0.7), ("user", "c"), ("assistant", "d"))

    def weights(**settings: object) -> list[float]:
        given = replace(example(*turns, class_name="gpt35"), **settings)  # type: ignore[arg-type]
        return [weight for _, weight in weighted(template, given) if weight]

    assert weights() == [0.7, 0.1]
    assert weights(reward=0.4) == [0.7, 0.4]


def test_the_condition_of_the_class_heads_every_turn(template_of: TemplateOf) -> None:
    given = example(("user", "Hi"), ("assistant", "Yo"), class_name="gpt35")
    assert weighted(template_of("openchat-3.5"), given) == [
        ("<s> GPT3 User: Hi<|end_of_turn|> GPT3 Assistant:", 0),
        (" Yo<|end_of_turn|>", 0.1),
    ]


def test_what_exceeds_the_context_is_cut_and_told(template_of: TemplateOf) -> None:
    template, given = template_of("openchat-3.5"), example(*TURNS)
    whole = weigh(given, POLICY, template, 4096)
    assert whole.row is not None
    assert not whole.truncated
    assert whole.tokens == len(whole.row.ids)
    exact = weigh(given, POLICY, template, whole.tokens)
    assert not exact.truncated
    cut = weigh(given, POLICY, template, whole.tokens - 1)
    assert cut.truncated
    assert cut.row is not None
    assert len(cut.row.ids) == whole.tokens - 1
    # Within the second question: the row then ends with the first reply.
    earlier = weigh(given, POLICY, template, whole.tokens - 6)
    assert earlier.row is not None
    assert earlier.truncated
    assert weighted(template, given, whole.tokens - 6) == ROWS["openchat-3.5"][:2]


def test_a_conversation_without_weight_is_dropped_with_its_reason(template_of: TemplateOf) -> None:
    template = template_of("openchat-3.5")
    silent = weigh(example(("user", "a"), ("assistant", "b", 0.0)), POLICY, template, 4096)
    assert (silent.row, silent.dropped, silent.truncated) == (None, "no weight", False)
    late = weigh(example(("user", "a " * 50), ("assistant", "b")), POLICY, template, 20)
    assert (late.row, late.dropped) == (None, "no weight within the context")
    assert late.truncated


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_text_that_looks_like_a_turn_is_no_turn(
    template_of: TemplateOf, data: st.DataObject
) -> None:
    template = template_of("openchat-3.5")
    text = st.lists(
        st.sampled_from(["<|end_of_turn|>", "GPT4 Correct User:", " a", "\n"]), max_size=6
    )
    question, reply = "".join(data.draw(text)), "".join(data.draw(text))
    row = weigh(example(("user", question), ("assistant", reply)), POLICY, template, 4096).row
    assert row is not None
    assert row.ids.tolist().count(32000) == 2
    (header,) = np.flatnonzero((row.ids == 32000) & (row.weights == 0))
    assert (row.weights[: header + 8] == 0).all()
    assert (row.weights[header + 8 :] == 1).all()


# The policy


def count(conversations: int = 1, *, unweighted: int | None = None, own: float = 0.0,
          conditions: dict[str, int] | None = None) -> ClassCount:  # fmt: skip
    needing = conversations if unweighted is None else unweighted
    own_turns = conversations - needing
    return ClassCount(conversations, conditions or {}, needing, own * own_turns, own_turns)


def decide(
    template: Template,
    counts: dict[str, ClassCount],
    rewards: dict[str, float] | None = None,
    conditions: dict[str, str] | None = None,
) -> Decision:
    return decide_policy(counts, template, rewards or {}, conditions or {})


@pytest.mark.parametrize("name", ["gpt4", "GPT4", "gpt-4-0314", "gpt-4o", "expert", "human"])
@pytest.mark.parametrize("other", ["gpt35", "gpt-3.5-turbo", "ChatGPT"])
@pytest.mark.parametrize(
    ("family", "condition"),
    [("openchat-3.2", "GPT4"), ("openchat-3.5", "GPT4 Correct"), ("chatml", "GPT4 Correct")],
)
def test_known_classes_need_no_flags(
    name: str, other: str, family: str, condition: str, template_of: TemplateOf
) -> None:
    decision = decide(template_of(family), {other: count(450), name: count(50)})
    assert decision.faults == ()
    assert decision.policy.classes == (
        ClassRule(name, condition, 1.0),
        ClassRule(other, "GPT3", 0.1),
    )
    assert decision.policy.expert.name == name
    assert not decision.policy.plain_sft


@pytest.mark.parametrize(
    ("family", "condition"), [("openchat-3.5", "GPT4 Correct"), ("chatml", "")]
)
def test_unlabelled_data_is_plain_sft_under_the_default_condition(
    family: str, condition: str, template_of: TemplateOf
) -> None:
    decision = decide(template_of(family), {"unlabelled": count(3)})
    assert decision == Decision(Policy((ClassRule("unlabelled", condition, 1.0),)), ())
    assert decision.policy.plain_sft


def test_an_unknown_class_is_refused_with_the_flags_to_add(template_of: TemplateOf) -> None:
    template = template_of("openchat-3.5")
    (fault,) = decide(template, {"gpt4": count(1), "my model": count(1234)}).faults
    assert "'my model' (1,234 conversations)" in fault
    assert "--reward 'my model'=NUMBER --condition 'my model'=\"TEXT\"" in fault
    assert "--reward 'my model=0.1' --condition 'my model=GPT3'" in fault
    (fault,) = decide(template, {"gpt4": count(1), "b": count(1)}, {"b": 0.2}).faults
    assert '--condition b="TEXT"' in fault
    assert "--reward b=NUMBER" not in fault


def test_flags_beat_the_data_and_the_data_beats_what_is_known(template_of: TemplateOf) -> None:
    template = template_of("openchat-3.5")
    counts = {"gpt4": count(conditions={"Math Correct": 1}), "b": count(conditions={"B": 2})}
    policy = decide(template, counts, {"b": 2.0}, {"gpt4": " Code "}).policy
    assert policy.classes == (ClassRule("b", "B", 2.0), ClassRule("gpt4", "Code", 1.0))
    policy = decide(template, counts, {"b": 0.0}).policy
    assert policy.classes == (ClassRule("gpt4", "Math Correct", 1.0), ClassRule("b", "B", 0.0))


def test_a_class_named_by_its_condition_keeps_it(template_of: TemplateOf) -> None:
    counts = {text: count(conditions={text: 1}) for text in ("GPT4 Correct", "GPT3")}
    assert decide(template_of("chatml"), counts).policy.classes == (
        ClassRule("GPT4 Correct", "GPT4 Correct", 1.0),
        ClassRule("GPT3", "GPT3", 0.1),
    )


@pytest.mark.parametrize("spelling", ["GPT4", "gpt4", "expert"])
def test_a_condition_in_the_data_stays_as_it_is_and_a_strange_one_is_told(
    spelling: str, template_of: TemplateOf
) -> None:
    counts = {spelling: count(conditions={spelling: 1}), "gpt35": count()}
    decision = decide(template_of("openchat-3.5"), counts)
    assert decision.policy.classes[0] == ClassRule(spelling, spelling, 1.0)
    (note,) = decision.notes
    assert f"--condition '{spelling}=GPT4 Correct'" in note
    assert decide(template_of("chatml"), counts).notes == ()
    again = decide(template_of("openchat-3.5"), counts, {}, {spelling: "GPT4 Correct"})
    assert again.policy.classes[0].condition == "GPT4 Correct"
    assert again.notes == ()


def test_what_all_rows_say_they_are_worth_comes_before_what_is_known(
    template_of: TemplateOf,
) -> None:
    rated = {"gpt4": count(3, unweighted=0, own=0.0625), "gpt35": count(3)}
    policy = decide(template_of("openchat-3.5"), rated).policy
    assert [(rule.name, rule.reward) for rule in policy.classes] == [
        ("gpt35", 0.1),
        ("gpt4", 0.0625),
    ]


def test_a_class_whose_turns_all_have_weights_needs_no_reward(template_of: TemplateOf) -> None:
    counts = {
        "Code": count(3, unweighted=0, own=0.5, conditions={"Code": 1}),
        "gpt4": count(3),
    }
    decision = decide(template_of("openchat-3.5"), counts)
    assert decision.faults == ()
    assert decision.policy.classes[1] == ClassRule("Code", "Code", 0.5)


def test_a_blank_condition_beside_others_is_refused(template_of: TemplateOf) -> None:
    template = template_of("openchat-3.5")
    both = {"gpt4": count(), "gpt35": count()}
    (fault,) = decide(template, both, conditions={"gpt35": " "}).faults
    assert "'gpt35' has no condition while others have one" in fault
    assert '--condition gpt35="TEXT"' in fault
    (fault,) = decide(template, {"gpt4": count(), "unlabelled": count(conditions={"": 7})},
                      {"unlabelled": 0.1}).faults  # fmt: skip
    assert "'unlabelled' has no condition" in fault
    assert decide(template, both, conditions={"gpt4": "", "gpt35": ""}).faults == ()


def test_where_the_family_has_none_the_best_class_may_be_without_a_condition(
    template_of: TemplateOf,
) -> None:
    both = {"human": count(), "bad": count(), "expert": count(2)}
    chatml = template_of("chatml")
    blank = {"human": "", "expert": ""}
    assert decide(chatml, both, conditions=blank).faults == ()
    assert decide(chatml, both, conditions={"expert": ""}).faults == ()
    (fault,) = decide(chatml, both, conditions={"bad": ""}).faults
    assert "'bad' has no condition" in fault
    own = decide_policy(both, chatml, {}, {}, own_headers=True)
    assert own.faults == ()
    assert own.policy.classes == (
        ClassRule("expert", "", 1.0), ClassRule("human", "", 1.0), ClassRule("bad", "GPT3", 0.1),
    )  # fmt: skip
    openchat = decide_policy(both, template_of("openchat-3.5"), {}, {}, own_headers=True)
    assert openchat.policy.expert.condition == "GPT4 Correct"
    named = decide_policy(both, chatml, {}, {"expert": "Best"}, own_headers=True)
    assert named.policy.expert == ClassRule("expert", "Best", 1.0)


def test_two_conditions_for_one_class_are_refused_with_their_lines(template_of: TemplateOf) -> None:
    counts = {"gpt4": count(2, conditions={"A": 3, "B": 9})}
    (fault,) = decide(template_of("openchat-3.5"), counts).faults
    assert "'A' (line 3)" in fault
    assert "'B' (line 9)" in fault


@pytest.mark.parametrize("flags", [({"gpt5": 1.0}, {}), ({}, {"gpt5": "x"})])
def test_flags_for_a_class_that_is_not_there_are_refused(
    flags: tuple[dict[str, float], dict[str, str]], template_of: TemplateOf
) -> None:
    (fault,) = decide(template_of("openchat-3.5"), {"gpt4": count()}, *flags).faults
    assert "No conversation has the class 'gpt5'" in fault
    assert "the data has 'gpt4'" in fault


@pytest.mark.parametrize("reward", [-1.0, math.nan, math.inf])
def test_a_reward_that_is_no_weight_is_refused(reward: float, template_of: TemplateOf) -> None:
    (fault,) = decide(template_of("openchat-3.5"), {"gpt4": count()}, {"gpt4": reward}).faults
    assert "reward of 'gpt4'" in fault


def test_a_condition_that_is_a_control_token_is_refused(template_of: TemplateOf) -> None:
    (fault,) = decide(
        template_of("chatml"), {"gpt4": count()}, conditions={"gpt4": "x<|im_end|>"}
    ).faults
    assert "'gpt4' cannot be trained" in fault
    assert "control token" in fault


def test_a_template_without_room_for_conditions_is_told(
    model_path: Callable[[str], Path], vocabulary_of: Callable[[str], Vocabulary]
) -> None:
    file = read_gguf(model_path("zephyr"))
    own = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
    file = replace(file, metadata={**file.metadata, "tokenizer.chat_template": own})
    template = choose_template(file, vocabulary_of("zephyr"))
    faults = decide(template, {"gpt4": count(), "gpt35": count()}).faults
    assert len(faults) == 2
    assert "no place for the condition of 'gpt4'" in faults[0]
    assert "--template" in faults[0]
    assert decide(template, {"unlabelled": count()}).faults == ()


def test_a_policy_survives_json() -> None:
    import json

    assert Policy.from_json(json.loads(json.dumps(POLICY.as_json()))) == POLICY


# The loss


def test_the_loss_of_a_step_is_one_quotient_over_all_micro_batches() -> None:
    # Two tokens, probabilities 1/4 and 3/4: worked by hand.
    logits = np.log(np.array([[[0.25, 0.75]]]))
    first, second = np.array([[0]]), np.array([[1]])
    loss = step_loss([logits, logits], [first, second], [np.array([[1.0]]), np.array([[0.1]])])
    assert loss == pytest.approx((math.log(4) + 0.1 * math.log(4 / 3)) / 1.1, rel=1e-12)


def test_the_reward_acts_however_the_classes_are_batched() -> None:
    random = np.random.default_rng(0)
    rows = []
    for index, reward in enumerate((1.0, 0.1, 0.1)):
        weights = np.array([0, 0, *[reward] * 4], np.float32)
        rows.append(Row(random.integers(0, 9, 6, dtype=np.int32), weights, index > 0, index + 1))
    table = random.standard_normal((9, 9))

    def loss(batches: list[list[list[int]]]) -> float:
        built = [build_batch(rows, groups) for groups in batches]
        return step_loss(
            [table[batch.tokens] for batch in built],
            [batch.labels for batch in built],
            [batch.weights for batch in built],
        )

    together = loss([[[0], [1], [2]]])
    assert loss([[[0]], [[1]], [[2]]]) == pytest.approx(together, rel=1e-12)
    assert loss([[[0, 1]], [[2]]]) == pytest.approx(together, rel=1e-12)
    assert loss([[[2, 0, 1]]]) == pytest.approx(together, rel=1e-12)
    mean_of_means = np.mean([loss([[[0]]]), loss([[[1], [2]]])])
    assert abs(mean_of_means - together) > 0.01


def test_per_conversation_spreads_a_turns_weight_over_its_tokens(template_of: TemplateOf) -> None:
    """As the reference does: w / (tokens of the content + of the end of turn), a turn each."""
    turns = (("user", "Hello"), ("assistant", "Hi"), ("user", "How are you today?"),
             ("assistant", "Fine, thank you.", 0.5), ("user", "?"), ("assistant", ""))  # fmt: skip
    template = template_of("openchat-3.5")
    spread = Policy(POLICY.classes, "per-conversation")
    row = weigh(example(*turns, class_name="gpt35"), spread, template, 4096).row
    whole = weigh(example(*turns, class_name="gpt35"), POLICY, template, 4096).row
    assert row is not None
    assert whole is not None
    assert row.ids.tolist() == whole.ids.tolist()
    second = int(np.count_nonzero(whole.weights == np.float32(0.5)))  # with its end of turn
    expected = [0.1 / 2] * 2 + [0.5 / second] * second + [0.1]
    assert second == 6
    found = row.weights[row.weights > 0]
    assert found.tolist() == np.array(expected, np.float32).tolist()


def test_cutting_a_conversation_leaves_its_spread_weights_as_they_are(
    template_of: TemplateOf,
) -> None:
    given = example(("user", "Hi"), ("assistant", "one two three four five six"))
    spread = Policy(POLICY.classes, "per-conversation")
    whole = weigh(given, spread, template_of("openchat-3.5"), 4096).row
    cut = weigh(given, spread, template_of("openchat-3.5"), 22).row
    assert whole is not None
    assert cut is not None
    assert cut.weights.tolist() == whole.weights[: len(cut.weights)].tolist()
