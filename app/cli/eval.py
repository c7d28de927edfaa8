"""`eval`: did it learn, at what, and at what price? A suite's name runs that suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from openchat_local.app.cli.main import LazyCommand, LazyGroup

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

CHOICE = "choice"


def _lazy(name: str, short_help: str) -> LazyCommand:
    return LazyCommand(f"openchat_local.app.cli.eval_{name}:{name}", short_help)


class EvalGroup(LazyGroup):
    """A word that is a suite's name and no command means `eval choice` on that suite."""

    table = {  # noqa: RUF012 - never changed
        "loss": _lazy("loss", "How well held-out answers are predicted, per class and condition."),
        "choice": _lazy("choice", "Multiple choice: right answers, and what was forgotten."),
        "suites": _lazy("suites", "Known sets of questions: list, fetch or remove them."),
        "answers": _lazy("answers", "Questions with one right answer, written out."),
        "compare": _lazy("compare", "Two contenders answer the same prompts, judged blind."),
        "grade": _lazy("grade", "Answers graded from 1 to 10 by a judge."),
        "conditions": _lazy("conditions", "What each trained condition changes, with a picture."),
        "ablation": _lazy("ablation", "What classes, conditions and rewards each bring."),
        "quality": _lazy("quality", "A judge scores training data; finer rewards."),
    }

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.table and self._is_suite(args[0]):
            args = [CHOICE, *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from openchat_local.app.cli.completing import complete_suite

        return [*complete_suite(ctx, click.Argument(["suite"]), incomplete),
                *super().shell_complete(ctx, incomplete)]  # fmt: skip

    def _is_suite(self, word: str) -> bool:
        from openchat_local.app.suites import SUITES

        return word in SUITES


@click.group(
    "eval",
    cls=EvalGroup,
    short_help="Judge models and adapters: losses, questions, blind comparisons.",
    no_args_is_help=True,
)
def evaluate() -> None:
    """Say whether an adapter made the model better, at what, and at what price.

    \b
      openchat-local eval loss held-out.jsonl --adapter mine
      openchat-local eval suites pull agieval
      openchat-local eval agieval --adapter mine
      openchat-local eval compare base mine --prompts questions.txt
    """
