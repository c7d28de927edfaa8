"""report.html: everything that was measured, and nothing that a browser would obey or fetch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

import numpy as np

from openchat_local.finetune.evaluation.page import FOLD, OPEN_ROWS, SHOWN_ROWS, render_page
from openchat_local.finetune.evaluation.page_template import COLOUR_NAMES
from openchat_local.finetune.evaluation.pictures import (
    Drawing,
    Estimate,
    Panel,
    bars_with_intervals,
    histogram_per_class,
    lines_with_intervals,
    scatter,
)
from openchat_local.finetune.evaluation.result import Result, Table

HOSTILE = "</pre></style><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}"


class Read(HTMLParser):
    """The elements of a page, its text, and how deep each row is folded."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.folded: list[bool] = []
        self._depth = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        self._depth += tag == "details"
        if attributes.get("class") == "row":
            self.folded.append(self._depth > 0)

    def handle_endtag(self, tag: str) -> None:
        self._depth -= tag == "details"

    def handle_data(self, data: str) -> None:
        self.text += data

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def page(rows: Sequence[Mapping[str, Any]] = (), title: str = "A measure", **fields: Any) -> Read:
    made_by = fields.pop("made_by", {"versions": {}})
    result = Result("conditions", title, made_by, {}, **fields)
    return Read(render_page(result, rows))


def drawing(name: str = "gpt4") -> Drawing:
    return scatter([Panel(name, {name: np.array([[0.0, 1.0], [2.0, 3.0]])}, name)])


def test_what_came_from_data_and_models_is_text_wherever_it_stands() -> None:
    plain = page([{"a": "b"}], pictures=[drawing().named("p", "c")]).tags

    read = page(
        [{HOSTILE: HOSTILE, "long": HOSTILE * 9, "beside": {HOSTILE: HOSTILE}, "list": [HOSTILE]}],
        title=HOSTILE,
        sentences=[HOSTILE],
        tables=[Table(HOSTILE, (HOSTILE,), [(HOSTILE,)], HOSTILE)],
        pictures=[drawing(HOSTILE).named(HOSTILE, HOSTILE)],
        notes=[HOSTILE],
        made_by={"contenders": [{"label": HOSTILE, "model": HOSTILE, "condition": HOSTILE}]},
    )

    assert "script" not in read.tags
    assert "img" not in read.tags
    assert "use" in plain  # what a scatter's points are
    assert "onerror" not in {name for _, attributes in read.elements for name in attributes}
    assert "{{ 7*7 }}" in read.text
    assert "49" not in read.text


def test_nothing_is_fetched_even_if_something_should_ask_for_it() -> None:
    read = page(pictures=[drawing().named("p", "c")])

    policies = [one.get("content") for tag, one in read.elements if "http-equiv" in one]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]
    linked = [one[key] for _, one in read.elements for key in ("src", "href") if key in one]
    assert all(link is None or link.startswith("#") for link in linked)


def test_the_sentences_come_first_then_pictures_then_tables_then_rows() -> None:
    read = page(
        [{"note": "the row"}],
        sentences=["It is better."],
        tables=[Table("Losses", ("class",), [("gpt4",)])],
        pictures=[drawing().named("p", "Where answers lie.")],
        notes=["Two are left out."],
    )

    order = ["A measure", "It is better.", "Where answers lie.", "Losses", "Two are", "the row"]
    places = [read.text.rindex(text) for text in order]
    assert places == sorted(places)


def test_who_was_measured_stands_below_the_title() -> None:
    contenders = [
        {"label": "base", "model": "tiny.gguf", "adapter": None, "condition": None},
        {"label": "mine", "model": "tiny.gguf", "adapter": "mine/adapter.gguf", "condition": ""},
    ]

    text = page(made_by={"contenders": contenders}).text

    assert "base: tiny.gguf" in text
    assert "mine: tiny.gguf, mine/adapter.gguf, under no condition" in text


def test_the_first_rows_are_open_the_next_folded_and_the_rest_in_the_file() -> None:
    read = page([{"number": n} for n in range(SHOWN_ROWS + 7)])

    assert read.folded == [False] * OPEN_ROWS + [True] * (SHOWN_ROWS - OPEN_ROWS)
    assert f"Rows {OPEN_ROWS + 1} to {OPEN_ROWS + FOLD} of" in read.text
    assert "The other 7 are in rows.jsonl." in read.text
    assert page([{"number": 1}]).folded == [False]
    assert "Row by row" not in page().text


def test_texts_that_belong_together_stand_side_by_side_and_an_empty_one_says_so() -> None:
    read = page([{"loss": 1.23456789, "right": True, "answers": {"base": "Yes.", "mine": ""}}])

    assert "beside" in [one.get("class") for _, one in read.elements]
    assert "(nothing)" in read.text
    assert "1.23457" in read.text
    assert "true" in read.text


def test_figures_within_figures_have_all_their_names() -> None:
    text = page([{"nats": {"base": {"GPT4 Correct": 1.23456789, "": None}, "mine": 2}}]).text

    for part in ("nats · base · GPT4 Correct", "1.23457", "null", "nats · mine"):
        assert part in text


def test_a_table_that_is_too_wide_scrolls_by_itself() -> None:
    read = page(tables=[Table("Losses", ("class", "loss"), [("gpt4", "1.25"), ("gpt35", "—")])])

    around = read.elements[read.tags.index("table") - 1]
    assert around == ("div", {"class": "wide", "tabindex": "0"})
    cells = [one.get("class") for tag, one in read.elements if tag in ("td", "th")]
    assert cells == [None, "n"] * 3


def test_pictures_take_the_colours_of_the_page_all_of_them() -> None:
    estimates = [Estimate(1.0, 0.5, 1.5), Estimate(2.0)]
    series = dict.fromkeys("abcdefg", estimates)
    drawings = [
        drawing(),
        bars_with_intervals(["x", "y"], series, value_label="v", reference=1.2),
        lines_with_intervals(["x", "y"], series, x_label="x", y_label="y", reference=1.2),
        histogram_per_class({"a": [1, 2, 2]}, x_label="score"),
    ]
    for one in drawings:
        used = set(re.findall(r"(?:fill|stroke): (#[0-9a-f]+)", one.svg))
        assert used
        assert used <= set(COLOUR_NAMES)

        shown = render_page(Result("k", "t", {}, {}, pictures=[one.named("p", "c")]), ())

        style, body = shown.split("</style></head>")
        assert not re.findall(r"(?:fill|stroke): #", body)
        named = set(re.findall(r"var\(--([a-z0-9-]+), #", body))
        assert all(f"--{name}:" in style for name in named)
