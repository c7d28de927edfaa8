"""Where a reply says its answer, and when that is the right one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.evaluation.answers.extraction import (
    Mark,
    after_hashes,
    last_boxed,
    last_said,
    normalised,
    normalised_latex,
)
from openchat_local.finetune.evaluation.answers.faults import AnswersError
from openchat_local.finetune.evaluation.answers.matching import (
    Answer,
    Reader,
    gold_of,
    is_right,
    read_rule,
)
from openchat_local.finetune.evaluation.answers.patterns import PatternSearcher, TooSlow

GSM8K = "She eats 3 of 16 - 3 = <<16-3=13>>13.\n#### 18"
MATH = "Then $x = \\frac{3}{4}$, so the answer is $\\boxed{\\frac{3}{4}}$."


def held(match: str, gold: str, reply: str, *, cut: bool = False) -> tuple[str | None, bool]:
    """What is found in a reply, and whether it is right."""
    rule = read_rule(match)
    right = gold_of(rule, [gold])
    assert right is not None
    with Reader(rule) as reader:
        answer = reader.found(reply, right.kind, cut=cut)
    return (None if answer is None else answer.text), is_right(answer, right)


@pytest.mark.parametrize(
    ("gold", "reply", "found", "right"),
    [
        # Numbers, as in GSM8K.
        (GSM8K, "16 - 3 = 13.\n#### 18", "18", True),
        (GSM8K, "She makes $18 every day.", "$18", True),
        (GSM8K, "She makes 9 * 2 = 18 dollars a day.", "18", True),
        (GSM8K, "The answer is 18.\nI checked it 3 times.", "18", True),
        (GSM8K, "**Answer:** 18 dollars, 2 an egg", "18", True),
        (GSM8K, "The answer is:\n\n18", "18", True),
        (GSM8K, "The answer is 9 + 9 = 18", "18", True),
        (GSM8K, "#### 17\nNo: #### 18", "18", True),
        (GSM8K, "#### 17\n#### 18", "18", True),
        (GSM8K, "Eighteen, I think.", None, False),
        (GSM8K, "", None, False),
        ("#### 1,200", "It costs $1200.00.", "$1200.00", True),
        ("#### 1200", "1.2e3", "1.2e3", True),
        ("0.5", "It is \\boxed{\\frac12}", "\\frac12", True),
        ("50%", "a share of 0.5", "0.5", True),
        ("12", "120", "120", False),
        ("-3", "The answer is −3.", "−3", True),
        ("\\boxed{7}", "so it is 7", "7", True),
        # Formulas, as in MATH.
        ("$\\boxed{x^2+1}$", "Thus $\\boxed{x^{2} + 1}$.", "x^{2} + 1", True),
        ("$\\boxed{x^2+1}$", "Thus it is $x^2 + 1$.", "1", False),
        ("\\boxed{(3,\\pi)}", "\\boxed{\\left(3, \\pi\\right)}", "\\left(3, \\pi\\right)", True),
        ("\\boxed{\\text{Tuesday}}", "\\boxed{Tuesday}", "Tuesday", True),
        ("\\boxed{x = 5}", "\\boxed{5}", "5", True),
        ("\\boxed{90^\\circ}", "\\boxed{90}", "90", True),
        ("\\boxed{\\sqrt{2}}", "\\boxed{\\sqrt{3}}", "\\sqrt{3}", False),
        ("\\boxed{\\sqrt{2}}", "\\boxed{\\sqrt{2}", "2", False),  # no brace at its end
        # Letters.
        ("(B)", "Let us see. So the answer is (B).", "B", True),
        ("B", "B. Paris", "B", True),
        ("B", "(B)", "B", True),
        ("B", "**B**", "B", True),
        ("A", "A dog barks.", None, False),
        ("(B)", "The answer is (A) because (B) is not.", "A", False),
        # Text.
        ("Paris", "The answer is Paris. It is large.", "Paris", True),
        ("St. Louis", "The answer is St. Louis. It is in Missouri.", "St. Louis", True),
        ("Paris", "paris", "paris", True),
        ("Paris", "**“Paris.”**", "**“Paris.”**", True),
        ("False", "So the answer is False.", "False.", True),
        ("Paris", "London", "London", False),
        ("Paris", "  ", None, False),
    ],
)
def test_auto_looks_for_what_the_right_answer_is(
    gold: str, reply: str, found: str | None, right: bool
) -> None:
    assert held("auto", gold, reply) == (found, right)


@pytest.mark.parametrize(
    ("match", "gold", "reply", "found", "right"),
    [
        ("exact", "Paris", "The answer is Paris.", "The answer is Paris.", False),
        ("exact", "1,000", "$1000", "$1000", True),
        ("exact", "a  B", "A b.", "A b.", True),
        ("exact", "é", "e\u0301", "e\u0301", True),
        ("number", MATH, "0.75", "0.75", True),
        ("number", "There are 12 of 20.", "20", "20", True),
        ("boxed", MATH, "0.75", "0.75", True),
        ("boxed", "x", "\\boxed{X}", "X", True),
        ("boxed", "x", "y", None, False),
        (r"regex=Result: (\S+)", "five", "Result: 4\nResult: Five!", "Five!", True),
        (r"regex=Result: (\S+)", "5", "Result: 5.0", "5.0", True),
        (r"regex=\d+", GSM8K, "it is 17 or 18", "18", True),
        (r"regex=Result: (\S+)", "5", "5", None, False),
        (r"regex=a(b)?", "a", "a", "a", True),
    ],
)
def test_a_rule_is_a_rule(match: str, gold: str, reply: str, found: str, right: bool) -> None:
    assert held(match, gold, reply) == (found, right)


@pytest.mark.parametrize(
    ("match", "gold", "reply", "found"),
    [
        ("auto", GSM8K, "First 16 - 3 = 13, then", None),  # of the reasoning
        ("auto", GSM8K, "#### 1", None),  # perhaps 18
        ("auto", GSM8K, "#### 18 #### 18 #### 1", "18"),
        ("auto", GSM8K, "The answer is 18. The answer is 1", "18"),
        ("auto", GSM8K, "#### 18\n\nAnother question: 5", "18"),
        ("auto", GSM8K, "The answer is 18. Let me", "18"),
        ("auto", GSM8K, "The answer is 1", None),
        ("auto", "\\boxed{x}", "\\boxed{x} and", "x"),
        ("auto", "Paris", "Paris", None),
        ("exact", "Paris", "Paris", None),
        (r"regex=\d+", "18", "it is 1", None),
        (r"regex=\d+", "18", "it is 18 eggs", "18"),
    ],
)
def test_a_reply_that_was_cut_only_says_what_it_went_on_from(
    match: str, gold: str, reply: str, found: str | None
) -> None:
    assert held(match, gold, reply, cut=True)[0] == found


def test_any_of_several_answers_is_right() -> None:
    rule = read_rule("auto")
    gold = gold_of(rule, ["Paris", "the city of Paris"])
    assert gold is not None
    with Reader(rule) as reader:
        for reply, right in (("Paris", True), ("The city of Paris.", True), ("London", False)):
            assert is_right(reader.found(reply, gold.kind, cut=False), gold) == right


@pytest.mark.parametrize(
    ("match", "gold"), [("number", "Paris"), ("auto", "**"), ("exact", "."), ("boxed", " ")]
)
def test_a_right_answer_that_cannot_be_one_is_none(match: str, gold: str) -> None:
    assert gold_of(read_rule(match), [gold]) is None


@pytest.mark.parametrize(
    "match", ["numbers", "regex=", "regex", "", "regex=(", "regex=a{9999999999}"]
)
def test_a_rule_that_is_none_is_refused(match: str) -> None:
    with pytest.raises(AnswersError) as error:
        read_rule(match)
    assert "regex=" in str(error.value)


def test_what_says_the_same_is_the_same() -> None:
    for texts in (
        ["Yes", "yes.", " YES ", "**yes**", '"Yes."', "$yes$", "\\(yes\\)", "yes!"],
        ["a b", "a  b", "a\nb", "A\tB"],
    ):
        assert len(set(map(normalised, texts))) == 1, texts
    for texts in (
        ["\\frac{1}{2}", "\\dfrac{1}{2}", "\\tfrac12", "\\frac 12", "$\\frac{1}{2}$"],
        ["x^{2}", "x^2", "x ^ 2", "y = x^2"],
        ["\\left( a, b \\right)", "(a,b)", "(a,\\!b)"],
    ):
        assert len(set(map(normalised_latex, texts))) == 1, texts


def test_marks_are_found_with_where_they_end() -> None:
    assert after_hashes("#### 4\n####  5 \nx") == Mark("5", 7, 15)
    assert after_hashes("so #### 4 #### 5") == Mark("5", 10, 16)
    assert after_hashes("#### 4 #### ####") == Mark("4", 0, 7)
    assert after_hashes("##### 4, a heading") is None
    assert last_boxed("\\boxed{1} \\fbox{\\frac{a}{b}}!") == Mark("\\frac{a}{b}", 10, 28)
    assert last_boxed("\\boxed{1} \\boxed{2") == Mark("1", 0, 9)
    assert last_said("The answer: no. Final answer: yes, sir") == Mark("yes, sir", 22, 38)
    assert last_said("answered") is None


@given(st.text())
def test_any_reply_is_read(reply: str) -> None:
    for kind in ("exact", "number", "boxed", "letter", "text"):
        with Reader(read_rule("auto")) as reader:
            for cut in (False, True):
                answer = reader.found(reply, kind, cut=cut)  # type: ignore[arg-type]
                assert answer is None or isinstance(answer, Answer)


@given(st.text())
def test_normalising_twice_is_once(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


def test_a_pattern_that_would_take_for_ever_is_stopped_and_said() -> None:
    with PatternSearcher(r"(a+)+$", seconds=0.3) as searcher:
        assert searcher.search("xaa") == ("aa", 3)
        with pytest.raises(TooSlow, match="takes too long on a reply of 61 characters"):
            searcher.search("a" * 60 + "b")
        assert searcher.search("xaa") == ("aa", 3)  # by another child


def test_a_pattern_sees_the_end_of_a_very_long_reply() -> None:
    with PatternSearcher(r"\d+") as searcher:
        assert searcher.search("1 " + "x" * 100_000 + " 2\u2028\U0001f600") == ("2", 100_004)
        assert searcher.search("x") is None
