from __future__ import annotations

import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openchat_local.finetune.run.charts import Series, line_chart, smoothed, ticks
from openchat_local.finetune.run.directory import RunDirectory
from openchat_local.finetune.run.report import render_report, write_report
from openchat_local.finetune.run.verdict import verdict

SETTINGS: dict[str, Any] = {
    "name": "mine",
    "classes": [
        {"name": "gpt4", "condition": "GPT4 Correct", "reward": 1.0},
        {"name": "<script>alert(1)</script>", "condition": "GPT3", "reward": 0.1},
    ],
    "data": {"conversations": 500, "lengths": {"p50": 100}},
    "base": {"path": "/models/SmolLM2.Q4_1.gguf", "name": "SmolLM2"},
    "backend": {"device": "cpu", "base_types": {"Q4_1": 120}},
    "answers": [
        {
            "prompt": "<b>Hi</b>" if number == 0 else f"Question {number}",
            "system": "",
            "wanted": f"<u>wanted {number}</u>",
            "conditions": [
                {"condition": "GPT4 Correct", "before": "x", "after": "<i>y</i>"},
                {"condition": "GPT3", "before": "", "after": "z"},
            ],
        }
        for number in range(5)
    ],
}


def sums(loss: float) -> dict[str, float]:
    return {"weighted_loss": loss * 8, "weight": 8.0, "loss": loss * 8, "tokens": 8, "correct": 4}


def step(number: int, loss: float) -> dict[str, Any]:
    result = {"loss": loss, "gradient_norm": 1.0, "classes": {"0": sums(loss), "1": sums(2 * loss)}}
    return {"kind": "step", "step": number, "learning_rate": 1e-4, "result": result}


def validation(number: int, loss: float) -> dict[str, Any]:
    return {"kind": "validation", "step": number, "loss": loss, "classes": {"0": sums(loss)}}


METRICS = [validation(0, 2.0), step(1, 2.0), step(2, 1.5), validation(2, 1.6)]


class Outline(HTMLParser):
    """The tags of a page, and whatever it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.open: list[str] = []
        self.plain = ""  # what is seen before anything is unfolded

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag in ("details", "style"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("details", "style"):
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if not self.open:
            self.plain += data


def test_it_tells_what_happened_in_plain_words_and_says_nothing_that_is_not_known() -> None:
    classes = [
        {"rule": {"name": name, "reward": reward}, "conversations": count}
        for name, reward, count in (("expert", 1.0, 30), ("<b>bad</b>", 0.1, 12))
    ]
    told = SETTINGS | {
        "data": {
            "train": {"file": "x.jsonl", "conversations": 42, "classes": classes},
            "validation": {"conversations": 5},
        },
        "parent": {"name": "older"},
        "answers": [SETTINGS["answers"][0] | {"class_name": "<b>expert</b>"}],
    }
    page = Outline()
    page.feed(render_report(told, METRICS))
    for words in (
        "SmolLM2 was shown 42 conversations again and again, beginning with the adapter older",
        "30 of the class expert, which count fully",
        "12 of the class <b>bad</b>, which count 0.1 times as much as the best",
        "“GPT4 Correct” for gpt4",
        "without the adapter it answers as before",
        "5 conversations were kept back and never learned",
        "it found their answers likelier than before",
        "a conversation of the class <b>expert</b>",
    ):
        assert words in page.plain
    assert "b" not in page.tags
    assert "What happened" not in render_report(SETTINGS, METRICS)


def test_the_page_is_self_contained_and_shows_text_as_text(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", SETTINGS)
    for record in METRICS:
        run.add_metrics(record)
    page = write_report(run).read_text("utf-8")
    outline = Outline()
    outline.feed(page)
    assert outline.tags.count("svg") == 2
    assert not {"script", "link", "img", "iframe"} & set(outline.tags)
    assert outline.fetched == []
    assert "&lt;script&gt;" in page
    assert "<b>Hi</b>" not in page
    assert "http" not in page


def test_the_first_page_is_what_was_learned_and_the_rest_is_folded() -> None:
    page = render_report(SETTINGS, METRICS)
    outline = Outline()
    outline.feed(page)
    plain = " ".join(outline.plain.split())
    for text in (
        "SmolLM2.Q4_1.gguf · 2 steps in",
        "fell from 2.0000",
        "under GPT4 Correct",
        "<b>Hi</b>",
        "<i>y</i>",
    ):
        assert text in plain
    assert [number for number in range(5) if f"<u>wanted {number}</u>" in plain] == [0, 1, 2]
    for folded in ("base types", "learning rate", "p50", '"answers"'):
        assert folded in page
        assert folded not in plain
    assert "2 more" in page
    assert "(nothing)" in page
    assert "prefers-color-scheme: dark" in page


def test_names_of_others_stay_as_they_are_written() -> None:
    page = render_report(SETTINGS, METRICS)
    assert "<th>base types: Q4_1<td>120" in page
    data = {"ignored": {"tool_calls": 3}, "supervised_tokens": 5}
    page = render_report({"data": data}, [])
    assert "<th>ignored: tool_calls<td>3" in page
    assert "<th>supervised tokens<td>5" in page


def test_the_system_prompt_that_was_asked_under_is_shown() -> None:
    answer = SETTINGS["answers"][0] | {"system": "Be <kind>."}
    assert "“Be &lt;kind&gt;.”" in render_report({"answers": [answer]}, [])


def test_the_verdict_is_honest() -> None:
    assert "fell from 2.0000 to 1.6000 (-20.0 %), lowest at step 2" in verdict(METRICS)
    assert "did not help" in verdict([validation(0, 2.0), validation(5, 2.1)])
    assert "nothing to tell" in verdict([step(1, 2.0)])
    assert "ended before" in verdict([validation(0, 2.0), step(1, 2.0)])


def test_a_run_that_has_only_begun_has_a_page_too() -> None:
    assert "<h1>" in render_report({}, [])


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
def test_ticks_hold_the_range_and_are_few(low: float, width: float) -> None:
    marks = ticks(low, low + width)
    slack = 1e-6 * max(abs(low), abs(low + width))
    assert marks[0] <= low + slack
    assert marks[-1] >= low + width - slack
    assert 2 <= len(marks) <= 9


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_what_is_counted_has_whole_ticks(low: int, width: int) -> None:
    marks = ticks(low, low + width, whole=True)
    assert all(mark == int(mark) for mark in marks)
    assert marks[0] <= low
    assert marks[-1] >= low + width
    assert 2 <= len(marks) <= 9


def test_no_label_is_on_a_line_of_the_grid() -> None:
    points = [(float(step), 3.0 - step / 7) for step in range(1, 8)]
    root = ET.fromstring(line_chart([Series("a", points, "#000")], "step", "loss", whole_x=True))
    lines = [one for one in root.iter("line") if one.get("class") == "grid"]
    heights = [float(one.attrib["y1"]) for one in lines]
    left = min(float(one.attrib["x1"]) for one in lines)
    texts = list(root.iter("text"))
    assert {one.text for one in texts} >= {"step", "loss", "0", "2", "4", "6", "8"}
    for text in texts:
        beside = text.get("class") == "y" and float(text.attrib["x"]) < left
        y = float(text.attrib["y"])
        assert beside or y < min(heights) - 4 or y > max(heights) + 12, text.text


def test_a_chart_is_well_formed_and_survives_what_is_no_number() -> None:
    points = [(0.0, 1.0), (1.0, float("nan")), (2.0, float("inf")), (3.0, 0.5)]
    svg = line_chart([Series("a & b", points, "#000")], "x", "y")
    root = ET.fromstring(svg)
    assert root.tag == "svg"
    assert "nan" not in svg
    assert line_chart([], "x", "y") == ""


def test_smoothing_is_the_mean_of_what_came() -> None:
    assert smoothed([(1, 2.0), (2, 4.0), (3, 9.0)], 2) == [(1, 2.0), (2, 3.0), (3, 6.5)]


@pytest.mark.parametrize("constant", [0.0, 3.0, -2.0])
def test_a_flat_curve_can_be_drawn(constant: float) -> None:
    assert "polyline" in line_chart([Series("a", [(1, constant), (2, constant)], "#000")], "x", "y")
