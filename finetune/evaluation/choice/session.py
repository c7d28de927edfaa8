"""All contenders on all sets: what is known already is not measured again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from openchat_local.finetune.evaluation.choice.judging import Judged, choice_of
from openchat_local.finetune.evaluation.choice.measuring import Finding, Method, measure
from openchat_local.finetune.evaluation.choice.prompts import writer_through
from openchat_local.finetune.evaluation.choice.question import Question
from openchat_local.finetune.evaluation.choice.reading import QuestionSet
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.rows import RowFile, cache_file
from openchat_local.models.engine.protocol import Engine
from openchat_local.models.errors import EngineError

_FOUND = {"log_likelihoods", "reply", "too_long"}  # one of these is what there is to know

_ANY_SIZE = 2**31  # of a server that does not tell how much it holds, and refuses what is more

Progress = Callable[[str, float], None]  # whom it is about, and the share of all that is done


@dataclass(frozen=True, slots=True)
class TooLong:
    """A question that `contender` could not be asked: it takes `tokens` with its options."""

    set_name: str
    line: int
    contender: str
    tokens: int
    context: int


@dataclass(slots=True)
class Findings:
    """What was found of each contender, by its label, and of each question, by its key.

    `fresh` counts the questions that were measured just now.
    """

    method: Method
    of: dict[str, dict[str, Finding]] = field(default_factory=dict)
    fresh: int = 0

    def judged(self, sets: Sequence[QuestionSet]) -> list[Judged]:
        """The sets as everybody answered them, without what was too long for anybody."""
        found = []
        for one in sets:
            asked = [
                question
                for question in one.questions
                if not any("too_long" in self.finding(label, question) for label in self.of)
            ]
            choices = {
                label: [choice_of(question, self.finding(label, question)) for question in asked]
                for label in self.of
            }
            found.append(Judged(one.name, asked, choices))
        return found

    def too_long(self, sets: Sequence[QuestionSet]) -> Iterator[TooLong]:
        """What was left out of `judged`, in the order of the files."""
        for one in sets:
            for question in one.questions:
                for label in self.of:
                    finding = self.finding(label, question)
                    if "too_long" in finding:
                        tokens, context = finding["too_long"], finding["context"]
                        yield TooLong(one.name, question.line, label, tokens, context)

    def finding(self, label: str, question: Question) -> Finding:
        """What was found of one contender on one question."""
        return self.of[label][self.method.key(question)]


def find_all(
    contenders: Sequence[Contender],
    sets: Sequence[QuestionSet],
    method: Method,
    engine_of: Callable[[Contender], Engine],
    folder: Path,
    *,
    context: int = 0,
    found: Findings | None = None,
    progress: Progress = lambda label, share: None,
) -> Findings:
    """Ask every contender every question. What was found before, by this method of this very
    contender, is taken from the `folder` of evaluations, and what is found is kept there at once:
    `found` is filled as it goes, for whoever interrupts.

    An engine is asked for only where something is to be measured. `context` is what it was
    started with, 0 for what it chose. Raises TemplateError, AdapterError, EngineError, EngineDied
    or RowsUnwritten.
    """
    findings = found if found is not None else Findings(method)
    questions = {method.key(one): one for each in sets for one in each.questions}
    known: dict[str, dict[str, Finding]] = {}
    for contender in contenders:
        rows = RowFile(_cache(folder, contender, method)).rows()
        kept = {row["question"]: row for row in rows if _holds(row, context)}
        known[contender.label] = {key: kept[key] for key in questions if key in kept}
    findings.of.update(known)
    weights = {key: _weight(one) for key, one in questions.items()}
    total = sum(weights[key] for has in known.values() for key in questions if key not in has)
    done = 0
    for contender in contenders:
        has = known[contender.label]
        left = {key: one for key, one in questions.items() if key not in has}
        if not left:
            continue
        engine = engine_of(contender)
        size = engine.load().context or _ANY_SIZE
        progress(contender.label, done / total)
        writer = writer_through(engine, contender, plain=method.plain)
        with RowFile(_cache(folder, contender, method)) as file:
            for finding in measure(engine, contender.choice, method, writer, left, size):
                file.append(finding)
                has[finding["question"]] = finding
                findings.fresh += 1
                done += weights[finding["question"]]
                progress(contender.label, done / total)
        if missing := left.keys() - has.keys():
            raise EngineError(
                f"{contender.label} gave no answer to {len(missing):,} questions: the same command "
                "goes on with them."
            )
    return findings


def _cache(folder: Path, contender: Contender, method: Method) -> Path:
    scores = method.by == "likelihood"
    identity = contender.scoring_identity if scores else contender.identity
    return cache_file(folder, "choice", {"of": identity, **method.as_json()})


def _holds(row: Mapping[str, object], context: int) -> bool:
    """Whether a kept row is still the answer: what was too long may fit a larger context."""
    size = row.get("context")
    whole = isinstance(row.get("question"), str) and not _FOUND.isdisjoint(row)
    return whole and not (isinstance(size, int) and context > size)


def _weight(question: Question) -> int:
    """About how long it takes, in characters."""
    return len(question.contexts[0]) + sum(map(len, question.continuations)) + 50
