"""What Markdown would take away and a reply must not lose: breaks, backslashes, formulas, names."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.app.tui.markdown.document import Document

PIECES = (
    "word", " ", "\n", "\n   ", "__init__", "_id", "$a_1*b*c_2$", "\\(x_1*y_2*z\\)", "\\[", "\\]",
    "\\{", "\\}", "$5", "$", "\\\\", "C:\\x", "\\d+\\.", "2*3*4", "f(*args)", "x**2", "a_b", "(",
    ")", "src/**/*.py", "漢字", "，", "f[i](x)", "\\\n", "\\begin{cases}", "\\end{a}", "."
)  # fmt: skip
SAMPLE = """The sum
\\[
a_1*b*c_2
- d
= e \\\\

$$
x
$$ and
\\[sic\\] **said**

3. three
7) seven
7) eight
7. $x
y$
   \\begin{a}
   # x
   \\end{a}

> $$
> *y*
lazily
a | $b$
--|--
$$c | d
$$

> 1. one
> 1. two
\tverse"""


def shown(source: str) -> str:
    rows: list[str] = []
    for block in Document(source).blocks:
        rows += [""] * block.gap
        rows += ["".join(text for text, _ in row).rstrip() for row in block.rows(80)]
    return "\n".join(rows).removeprefix("\n")


def styles(source: str) -> dict[str, str]:
    return {
        text: names
        for block in Document(source).blocks
        for row in block.rows(80)
        for text, names in row
    }


@pytest.mark.parametrize(
    "text",
    [
        "Roses are red,\nviolets are blue,\n    and so are you.",
        "Anna Smith\n12 Hill Street\nLondon",
        "床前明月光，\n疑是地上霜。",
        r"Let \(a_1*b*c_2\) be in \{1, 2\}, \[x\] and f \| g.",
        "Then $a_1*b*c_2$ and $$x_1*y*z_1$$ hold.",
        "\\[\na_1 = b_1\n- c\n+ d \\\\\n# e\n\\]",
        "$$\n1. a\n\\begin{x}\n$$",
        "\\begin{aligned}\na &= b \\\\\n- c\n\\end{aligned}",
        "Edit __init__.py, then __main__ and _id_ but not snake_case_name or _private().",
        "2*3*4, x**2 + y**2, a*b + c*d, (1+2)*3*(4), f(*args, **kwargs)",
        "*.py, src/**/*.py, **/*.js and int *p, *q;",
        r"C:\Users\me, \\server\share, C:\\temp and \d+\.\d+",
        "docker run \\\n  -it debian",
        "It costs $5, or between $10 and 20$.",
        "The element f[i](x) of handlers[name](event)",
        "3. third\n7. seventh\n9. ninth",
        "Snow \\\\ water",
    ],
)
def test_what_was_said_is_shown(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("**bold** and *em* and ***both***", "bold and em and both"),
        ("_two words_, __two more__", "two words, two more"),
        ("**H**yper **T**ext, **.env**", "Hyper Text, .env"),
        ("这是**重要**的", "这是重要的"),
        ("**注意：**请把“**”和*“这个”*的", "注意：请把“**”和“这个”的"),
        (r"snake\_case, \*not em\*, \# no title", "snake_case, *not em*, # no title"),
        ("1\\. no list\n\\- none", "1. no list\n- none"),
        ("1. a\n1. b\n1. c", "1. a\n2. b\n3. c"),
        ("1) a\n2) b", "1) a\n2) b"),
        ("- a\n  1. x\n  5. y", "• a\n  1. x\n  5. y"),
        ('[a](b.html "t")', 'a (b.html "t")'),
    ],
)
def test_what_is_meant_as_markdown_still_is(source: str, text: str) -> None:
    assert shown(source) == text


def test_a_name_in_bold_is_bold() -> None:
    assert styles("**__init__.py** and $x$ and `$HOME`") == {
        "__init__.py": "strong", " and $x$ and ": "", "$HOME": "inline-code",
    }  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=20))
def test_nothing_is_lost_of_names_formulas_and_paths(pieces: list[str]) -> None:
    text = "".join(pieces)
    assert "".join(shown(text).split()) == "".join(text.split())


@given(st.lists(st.integers(0, len(SAMPLE)), max_size=30))
def test_a_reply_with_formulas_does_not_depend_on_how_it_was_cut(cuts: list[int]) -> None:
    document = Document()
    for start, end in pairwise([0, *sorted(cuts), len(SAMPLE)]):
        document.append(SAMPLE[start:end])
    whole = [block.rows(40) for block in Document(SAMPLE).blocks]
    assert [block.rows(40) for block in document.blocks] == whole


FORMULA_LINES = st.sampled_from([
    "\\[", "\\]", "$$", "$$ x", "x $$", "\\[x\\]", "\\[x\\] y", "\\begin{a}", "\\end{a}", "", "- a",
    "text", "> $$", "  $$", "      $$", "1. $$", "7) \\[", "|a|b|", "|-|-|", "$", "=", "#", "```",
])  # fmt: skip


@given(st.lists(FORMULA_LINES, max_size=8), st.integers(1, 9))
def test_formulas_in_any_pieces_give_the_same_rows(lines: list[str], size: int) -> None:
    text = "\n".join(lines)
    document = Document()
    for start in range(0, len(text), size):
        document.append(text[start : start + size])
    whole = [block.rows(40) for block in Document(text).blocks]
    assert [block.rows(40) for block in document.blocks] == whole
