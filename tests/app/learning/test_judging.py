"""Judged: an adapter that must win, one that must lose, and what cannot be measured said."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from openchat_local.app.learning import forgetting
from openchat_local.app.learning.findings import (
    ClassLosses,
    Compared,
    Findings,
    Questions,
    Replies,
    kept_findings,
)
from openchat_local.app.learning.judging import JudgingStopped, Stage, judge
from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.evaluation.statistics import Interval
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import AdapterChoice, GenerationRequest, Sampling
from openchat_local.models.errors import AdapterError
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import expert_card, write_random_adapter
from support.engines import run
from support.versions import CLASSES, install

PROMPTS = ("Hello", "Why?", "A word", "Seven", "Rain", "Stones", "Nine", "Go on", "Red", "Left",
           "More", "Quiet")  # fmt: skip


@pytest.fixture(autouse=True)
def short_replies(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said does not matter here."""
    monkeypatch.setattr(forgetting, "REPLY_TOKENS", 8)


def written_by(engine: LocalEngine, adapter: Path | None) -> list[Row]:
    """What is held out, as this adapter itself writes it: nobody finds it likelier. The first
    half is of the class expert, the rest of the class middle."""
    rows = []
    for number, prompt in enumerate(PROMPTS):
        index = 2 * number // len(PROMPTS)
        asked = Conversation((Message("user", prompt),), str(CLASSES[index]["condition"]))
        sampling = Sampling(temperature=0.0, max_tokens=8)
        request = GenerationRequest(
            asked, sampling, adapter=AdapterChoice(adapter), speculate=False
        )
        _, finished = run(engine, request)
        ids = [*engine.render(asked).ids, *finished.token_ids]
        weights = np.zeros(len(ids), np.float32)
        weights[-len(finished.token_ids) :] = 1.0
        rows.append(Row(np.array(ids, np.int32), weights, index, number + 1))
    return rows


@pytest.fixture(scope="session")
def of_adapter(engine: LocalEngine, adapter: Path) -> list[Row]:
    return written_by(engine, adapter)


@pytest.fixture(scope="session")
def of_base(engine: LocalEngine) -> list[Row]:
    return written_by(engine, None)


@pytest.fixture
def library(home: Path, settings_file: Path) -> AdapterLibrary:
    return AdapterLibrary(home / "adapters")


def quickly(name: str, engine: LocalEngine, **more: object) -> Findings:
    return judge(name, engine, seconds=0.01, **more)  # type: ignore[arg-type]


def test_one_that_must_win_wins_and_it_is_kept_with_it(
    home: Path, library: AdapterLibrary, engine: LocalEngine, adapter: Path, of_adapter: list[Row]
) -> None:
    install(home, "mine", adapter, held_out=of_adapter)
    stages: list[Stage] = []
    found = quickly("mine", engine, tell=stages.append)
    assert [(one.class_name, one.base.conversations) for one in found.classes] == [
        ("expert", 6), ("middle", 6),
    ]  # fmt: skip
    assert all(one.base.better for one in found.classes)
    assert not found.classes[0].base.worse
    assert found.classes[0].base.tokens == sum(int(row.weights.sum()) for row in of_adapter[:6])
    assert "does better than the model as it is" in found.sentences[0]
    assert "too few to rely on" in found.sentences[0]
    assert found.against is None
    assert isinstance(found.forgetting, Replies)
    assert found.forgetting.loss.change > 0  # what the base chose is likeliest to itself
    assert kept_findings(library.info("mine").facts) == found
    assert next(stage.what for stage in stages) == "reading what was held out"
    assert all(0 <= stage.fraction <= 1 for stage in stages)


def test_one_that_must_lose_is_worse(
    home: Path, library: AdapterLibrary, engine: LocalEngine, adapter: Path, of_base: list[Row]
) -> None:
    install(home, "mine", adapter, held_out=of_base)
    found = quickly("mine", engine)
    assert found.worse
    assert "it does worse than the model as it is" in found.sentences[0]
    assert found.sentences[-1].endswith("only if you say yes twice.")
    assert found.in_brief == "scored worse"


def test_against_the_one_in_use_only_on_what_that_has_not_seen(
    home: Path,
    library: AdapterLibrary,
    engine: LocalEngine,
    tiny: Path,
    adapter: Path,
    of_adapter: list[Row],
) -> None:
    other = write_random_adapter(home / "o.gguf", tiny, 7, size=0.2, card=expert_card(tiny))
    install(home, "used", other, trained=of_adapter[:4])
    install(home, "mine", adapter, held_out=of_adapter)
    found = quickly("mine", engine, former="used")
    assert found.against == "used"
    former = found.classes[0].former
    assert former is not None
    assert former.conversations == 2
    assert former.after == pytest.approx(former.before + former.change)
    assert any("than used, which is in use" in sentence for sentence in found.sentences)
    assert quickly("mine", engine, former="gone").against is None


def test_what_its_parent_was_trained_on_does_not_count(
    home: Path, library: AdapterLibrary, engine: LocalEngine, adapter: Path, of_adapter: list[Row]
) -> None:
    install(home, "parent", adapter, trained=of_adapter[:5])
    install(home, "mine", adapter, parent="parent", held_out=of_adapter)
    found = quickly("mine", engine)
    assert [one.base.conversations for one in found.classes] == [1, 6]
    assert "which says nothing of others" in found.sentences[0]
    library.remove("parent")
    found = quickly("mine", engine)
    assert [one.base.conversations for one in found.classes] == [6, 6]
    assert any("is not known any more" in note for note in found.notes)


def test_one_without_a_run_is_judged_by_everyday_questions_alone(
    library: AdapterLibrary, engine: LocalEngine, adapter: Path
) -> None:
    library.add("mine", adapter)
    found = quickly("mine", engine)
    assert found.classes == ()
    assert "nothing held out" in found.notes[0]
    assert isinstance(found.forgetting, Replies)
    assert found.forgetting.count == forgetting.AT_ONCE  # however little time there is


def test_an_adapter_that_changes_nothing_forgot_nothing(
    library: AdapterLibrary, engine: LocalEngine, tiny: Path
) -> None:
    same = write_random_adapter(tiny.with_name("same.gguf"), tiny, size=0.0, card=expert_card(tiny))
    choice = AdapterChoice(same)
    # Its own condition alone would change what is asked.
    plain = write_random_adapter(
        tiny.with_name("plain.gguf"), tiny, size=0.0, card=replace(expert_card(tiny), classes=())
    )
    found = forgetting.by_replies(
        engine, replace(choice, path=plain), lambda _: None, seconds=60, prompts=PROMPTS[:4]
    )
    assert found is not None
    assert found.same == found.count == 4
    assert found.loss.change == pytest.approx(0, abs=1e-3)
    assert not found.worse


def test_stopping_keeps_nothing(
    home: Path, library: AdapterLibrary, engine: LocalEngine, adapter: Path, of_adapter: list[Row]
) -> None:
    install(home, "mine", adapter, held_out=of_adapter)
    for after in range(0, 20, 4):
        seen: list[Stage] = []
        with pytest.raises(JudgingStopped, match="stopped"):
            quickly("mine", engine, tell=seen.append, stopped=lambda: len(seen) > after)  # noqa: B023
    assert kept_findings(library.info("mine").facts) is None
    assert quickly("mine", engine).adapter == "mine"  # the engine is as it was


def test_one_that_is_replaced_meanwhile_keeps_nothing_of_the_old_one(
    home: Path, library: AdapterLibrary, engine: LocalEngine, tiny: Path, adapter: Path
) -> None:
    library.add("mine", adapter)
    other = write_random_adapter(home / "o.gguf", tiny, 5, card=expert_card(tiny))

    def tell(stage: Stage) -> None:
        if stage.what.startswith("keeping"):
            library.add("mine", other, replace=True)

    with pytest.raises(JudgingStopped, match="replaced"):
        quickly("mine", engine, tell=tell)
    assert kept_findings(library.info("mine").facts) is None


def test_one_of_another_model_is_refused(
    library: AdapterLibrary, engine: LocalEngine, adapter_of_another: Path
) -> None:
    library.add("mine", adapter_of_another)
    with pytest.raises(AdapterError, match="was trained on"):
        quickly("mine", engine)


@pytest.fixture
def suite(home: Path, settings_file: Path) -> str:
    """A suite that is here: forty questions with a letter each."""
    folder = home / "suites" / "truthfulqa"
    folder.mkdir(parents=True)
    rows = [
        {"question": f"Q: {n} + {n}? (A) {2 * n} (B) {n}", "options": ["A", "B"], "label": ["A"]}
        for n in range(40)
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    (folder / "some.jsonl").write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    source = {"files": {"some.jsonl": {"sha256": digest, "questions": 40}}}
    (folder / "SOURCE").write_text(json.dumps(source))
    return "truthfulqa"


def test_a_suite_that_was_fetched_is_asked(
    suite: str, library: AdapterLibrary, engine: LocalEngine, adapter: Path
) -> None:
    library.add("mine", adapter)
    found = quickly("mine", engine).forgetting
    assert isinstance(found, Questions)
    assert (found.suite, found.count) == (suite, forgetting.LEAST)
    assert found.right - found.base_right == found.won - found.lost


def about(low: float, high: float, conversations: int = 20) -> Compared:
    middle = (low + high) / 2
    return Compared(conversations, 100, 2.0, 2.0 + middle, Interval(low, high))


@pytest.mark.parametrize(
    ("base", "former", "forgot", "worse"),
    [
        (about(-0.3, -0.1), None, None, False),
        (about(-0.3, 0.1), None, None, False),
        (about(0.1, 0.3), None, None, True),
        (about(-0.3, -0.1), about(0.01, 0.2), None, True),
        (about(-0.3, -0.1), about(-0.1, 0.2), None, False),
        (about(-0.3, -0.1), None, Questions("bbh", 60, 30, 15, 17, 2), True),
        (about(-0.3, -0.1), None, Questions("bbh", 60, 30, 28, 4, 2), False),
        (about(-0.3, -0.1), None, Replies(20, 9, about(0.3, 0.6)), False),
        (about(-0.3, -0.1), None, Replies(20, 0, about(1.1, 2.0)), True),
        (Compared(1, 5, 2.0, 9.0, None), None, None, False),
    ],
)
def test_worse_is_what_chance_does_not_explain(
    base: Compared, former: Compared | None, forgot: Questions | Replies | None, worse: bool
) -> None:
    classes = (
        ClassLosses("expert", "Expert", base, former),
        ClassLosses("bad", "Bad", about(0.5, 0.9)),  # getting worse at those is no fault
    )
    against = None if former is None else "used"
    found = Findings("mine", 1.0, "tiny", 0.0, against, classes, forgot, ("A note.",))
    assert found.worse == worse
    assert Findings.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert all(sentence.endswith(".") for sentence in found.sentences)
    assert ("yes twice" in found.sentences[-1]) == worse


@pytest.mark.parametrize("damaged", [None, 3, [], {}, {"classes": 3}, {"adapter": "x"}])
def test_findings_that_are_none_are_none(damaged: object) -> None:
    assert Findings.from_json(damaged) is None
