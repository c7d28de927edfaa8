"""`finetune`: from conversations to an adapter. `finetune FILE` trains on FILE."""

from __future__ import annotations

import click

from openchat_local.app.cli.main import LazyCommand, LazyGroup

TRAIN = "train"


class FinetuneGroup(LazyGroup):
    """A word that is not a command is a file: `finetune FILE` means `finetune train FILE`."""

    table = {  # noqa: RUF012 - never changed
        TRAIN: LazyCommand(
            "openchat_local.app.cli.finetune_train:train",
            "Train an adapter on FILE (what `finetune FILE` does).",
        ),
        "preview": LazyCommand(
            "openchat_local.app.cli.finetune_preview:preview",
            "Show a few conversations token by token, coloured by weight.",
        ),
        "evaluate": LazyCommand(
            "openchat_local.app.cli.eval_loss:loss",
            "Measure an adapter on conversations it was not trained on (`eval loss`).",
        ),
        "runs": LazyCommand(
            "openchat_local.app.cli.finetune_runs:runs", "List the training runs, or remove one."
        ),
        "attach": LazyCommand(
            "openchat_local.app.cli.finetune_attach:attach",
            "Look at a run that trains in the background, pause or stop it.",
        ),
    }

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "FILE | COMMAND [ARGS]..."]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, and the options of the one that needs no name."""
        self.format_commands(ctx, formatter)
        train = self.get_command(ctx, TRAIN)
        if train is None:
            return
        options = (one for one in train.params if isinstance(one, click.Option))
        shown = (option.get_help_record(ctx) for option in options)
        with formatter.section("Options of training"):
            formatter.write_dl([record for record in shown if record is not None])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        named = bool(args) and args[0] in {*self.table, *ctx.help_option_names}
        if args and not named and TRAIN in self.table:
            args = [TRAIN, *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=FinetuneGroup,
    short_help="Train an adapter on your own conversations.",
    no_args_is_help=True,
)
def finetune() -> None:
    """Train an adapter on the conversations of a file or a folder, by C-RLFT.

    JSON, CSV, Parquet, a copy of a Hugging Face dataset; messages, ShareGPT, Alpaca, prompt and
    completion, chosen and rejected; a class, a score or a reward says how good an answer is.
    What a file is taken for is said first.
    """
