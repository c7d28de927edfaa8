"""The root of the command line: which commands there are, and how every run ends.

A command's module is imported when the command is called, so that `--version` and
`--help` cost little more than Python and click.
"""

from __future__ import annotations

import errno
import importlib
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import ClassVar, NamedTuple

import click

from openchat_local import __version__
from openchat_local.app.printable import printable
from openchat_local.models.errors import OpenChatError

PROGRAM = "openchat-local"
DEBUG_VARIABLE = "OPENCHAT_LOCAL_DEBUG"

OFFLINE_VARIABLE = "OPENCHAT_LOCAL_OFFLINE"  # models.network.VARIABLE

COMPLETE_VARIABLE = "_OPENCHAT_LOCAL_COMPLETE"  # set by the shell's script at a press of Tab

INTERRUPTED = 130
PIPE_CLOSED = 141


class LazyCommand(NamedTuple):
    """Where a command is defined ("module:attribute") and its line in `--help`."""

    target: str
    short_help: str


COMMANDS = {
    "chat": LazyCommand(
        "openchat_local.app.cli.chat:chat", "Open the chat window (the default command)."
    ),
    "ask": LazyCommand("openchat_local.app.cli.ask:ask", "Answer one prompt on standard output."),
    "history": LazyCommand(
        "openchat_local.app.cli.history:history", "List, search, export and import chats."
    ),
    "models": LazyCommand(
        "openchat_local.app.cli.models:models", "List, fetch, verify and remove models."
    ),
    "finetune": LazyCommand(
        "openchat_local.app.cli.finetune:finetune", "Train an adapter on your own conversations."
    ),
    "eval": LazyCommand(
        "openchat_local.app.cli.eval:evaluate",
        "Judge models and adapters: losses, questions, blind comparisons.",
    ),
    "serve": LazyCommand(
        "openchat_local.app.cli.serve:serve",
        "Serve the model and its adapters to other programs, as OpenAI's API does.",
    ),
    "adapters": LazyCommand(
        "openchat_local.app.cli.adapters:adapters", "List, export, merge and remove adapters."
    ),
    "doctor": LazyCommand(
        "openchat_local.app.cli.doctor:doctor", "Examine this installation; what to do about it."
    ),
    "bundle": LazyCommand(
        "openchat_local.app.cli.bundle:bundle", "Pack all of it for a machine without a network."
    ),
    "render": LazyCommand(
        "openchat_local.app.cli.render:render", "Show the token ids of a conversation."
    ),
    "config": LazyCommand(
        "openchat_local.app.cli.config:config", "Show the settings and where they come from."
    ),
    "completion": LazyCommand(
        "openchat_local.app.cli.completion:completion",
        "Print the script that completes commands with Tab.",
    ),
}


class LazyGroup(click.Group):
    """A group whose commands are known by name and imported when called."""

    table: ClassVar[Mapping[str, LazyCommand]]

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module, attribute = self.table[cmd_name].target.split(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, which does not know our table: an unknown name gets a suggestion."""
        name = args[0]
        if name in self.table or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        raise click.UsageError(f"No such command {name!r}. {self.suggestion(name)}", ctx)

    def suggestion(self, name: str) -> str:
        """What may have been meant by a name that is not a command."""
        near = get_close_matches(name.lower(), self.table, n=1)
        if near:
            return f"Did you mean {near[0]!r}?"
        return f"There are {', '.join(self.table)}."

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.short_help) for name, lazy in self.table.items()])


class RootGroup(LazyGroup):
    """All commands, and how the program as a whole behaves."""

    table = COMMANDS

    def suggestion(self, name: str) -> str:
        """Where a prompt or a model stands in place of a command, say which command takes it."""
        if name.lower().endswith(".gguf"):
            return f"To chat with a model: {PROGRAM} chat -m {shlex.quote(name)}"
        if len(name.split()) > 1 or name.endswith(("?", "!")):
            return f"To ask something: {PROGRAM} ask {shlex.quote(name)}"
        return super().suggestion(name)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Without a command, the command is `chat`, and the options are its options."""
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        first = next((i for i, word in enumerate(args) if word not in own), len(args))
        asks_for_text = {"-h", "--help", "--version"} & set(args[:first])
        names_a_command = first < len(args) and not args[first].startswith("-")
        completing = ctx.resilient_parsing and first == len(args)  # any command may follow
        if not (asks_for_text or names_a_command or completing):
            args = [*args[:first], "chat", *args[first:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # click would exit with 1, as if the command had failed; the reader of our
            # output has simply had enough (`openchat-local history list | head`).
            raise click.exceptions.Exit(PIPE_CLOSED) from None


def _turn_debug_on(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ[DEBUG_VARIABLE] = "1"  # in the environment, so that child processes see it


def _turn_offline_on(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        os.environ[OFFLINE_VARIABLE] = "1"


@click.group(cls=RootGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    callback=_turn_debug_on,
    help=f"Show tracebacks (also: {DEBUG_VARIABLE}=1).",
)
@click.option(
    "--offline",
    is_flag=True,
    expose_value=False,
    callback=_turn_offline_on,
    help=f"Refuse whatever would use the network (also: {OFFLINE_VARIABLE}=1).",
)
def cli() -> None:
    """Chat with a language model on this machine. Nothing leaves it, unless
    you name an engine that is elsewhere.

    Without a command, the chat window opens.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status: 0, 1 for an error, 2 for wrong
    usage, 130 when interrupted, 141 when the reader of our output went away.
    """
    _fill_standard_streams()
    _write_any_character()
    try:
        return _run(arguments)
    finally:
        _silence_what_is_gone()


def _run(arguments: Sequence[str] | None) -> int:
    if COMPLETE_VARIABLE in os.environ:
        _prepare_completion()
    try:
        status = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name=PROGRAM,
            complete_var=COMPLETE_VARIABLE,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except OpenChatError as error:
        return _fail(str(error))
    except BrokenPipeError:
        status = PIPE_CLOSED
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return _fail(_unexpected(error))
    if status == PIPE_CLOSED:
        _silence_stdout()
    return status if isinstance(status, int) else 0


def _prepare_completion() -> None:
    from click.shell_completion import add_completion_class

    from openchat_local.app.cli.completing import QuotingBashComplete

    add_completion_class(QuotingBashComplete)


def _fill_standard_streams() -> None:
    # Started with one of them closed (`<&-`), Python has None there, and the next file to be
    # opened gets its number: native code that writes to fd 1 would write into the chats.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _write_any_character() -> None:
    # A Windows pipe is cp1252 and a POSIX one may be Latin-1: a reply with an emoji
    # must not end in UnicodeEncodeError.
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8" if os.name == "nt" else None, errors="replace")


def _silence_stdout() -> None:
    # The interpreter flushes stdout once more on its way out and would report the pipe.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _silence_what_is_gone() -> None:
    # A terminal that was closed takes no last words, and the interpreter, which flushes both
    # streams on its way out, would end with status 120 for that.
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _fail(sentence: str) -> int:
    if os.environ.get(DEBUG_VARIABLE):
        import traceback

        traceback.print_exc()
    # It may quote a model file or an import, which must not steer the terminal.
    click.echo(f"{PROGRAM}: {printable(sentence)}", err=True)
    return 1


def _unexpected(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full ({error.filename or error}); make room and try again."
    log = append_to_log(error)
    details = f"the details are in {log}" if log else "add --debug for the details"
    return f"This is a bug in {PROGRAM}, sorry ({type(error).__name__}: {error}); {details}."


def append_to_log(error: Exception) -> str | None:
    """Append the error's traceback to the log, whose path comes back; None if it cannot be
    written."""
    import time
    import traceback

    from openchat_local.app.paths import ensure_home, log_path

    try:
        ensure_home()
        # 0600 from the first byte on; Windows ignores the mode and inherits the folder's list.
        descriptor = os.open(log_path(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with open(descriptor, "a", encoding="utf-8", errors="replace") as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {PROGRAM} {__version__}\n")
            log.write("".join(traceback.format_exception(error)) + "\n")
    except (OSError, OpenChatError):
        return None
    return str(log_path())


if __name__ == "__main__":
    sys.exit(main())
