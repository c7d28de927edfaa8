"""`ask`: one prompt, one reply, in a pipe or at the prompt of a shell."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import click

from openchat_local.app.cli.attaching import GoingAlong
from openchat_local.app.cli.elsewhere import refuse_elsewhere, refuse_unknown
from openchat_local.app.cli.options import (
    engine_options,
    model_options,
    refuse_local,
    sampling_options,
    take_overrides,
)
from openchat_local.app.cli.reply_writer import ReplyWriter
from openchat_local.app.cli.standard_input import whole_prompt
from openchat_local.app.printable import printable
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.chats import Chat, ChatFields, ChatStore, StoredMessage
    from openchat_local.app.settings.model import Settings
    from openchat_local.models.conversation import Conversation
    from openchat_local.models.engine.context_window import Overflow
    from openchat_local.models.engine.protocol import Finished, LoadedModel, Sampling, Usage

# At a terminal the eye wants more than the ten updates a second that a screen full of
# Markdown can afford; writing plain text costs next to nothing.
UPDATE_INTERVAL = 0.03
FOR_ONE_REPLY = frozenset({"seed", "max_tokens"})
"""Flags of the sampling that do not stay with the chat: which draw, and how long."""


@click.command()
@click.argument("prompt", nargs=-1, metavar="[PROMPT] [-]")
@click.option("-s", "--system", metavar="TEXT", help="System prompt.")
@click.option(
    "-c",
    "--continue",
    "continue_last",
    is_flag=True,
    help="Continue the last chat, with its settings.",
)
@click.option("--chat", "chat_id", metavar="ID", help="Continue this chat (see: history list).")
@click.option("--private", is_flag=True, help="Mark the chat private: no KV state is kept of it.")
@click.option("--raw", is_flag=True, help="Continue PROMPT as it is: base models, no template.")
@click.option("--json-schema", metavar="JSON|FILE", help="Force the reply to obey a JSON schema.")
@click.option("--stop", multiple=True, metavar="TEXT", help="End the reply here; repeatable.")
@click.option(
    "-f",
    "--attach",
    "attached",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="Send this file along, or the best of a FOLDER/; repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be sent, and ask nothing.")
@click.option(
    "--thinking",
    "whole",
    is_flag=True,
    help="Print what the model thinks, too: the reply as it was written.",
)
@click.option("--no-stream", is_flag=True, help="Print the reply when it is complete.")
@click.option("-v", "--verbose", is_flag=True, help="Token counts and times on stderr.")
@model_options
@engine_options
@sampling_options
def ask(prompt: tuple[str, ...], **flags: Any) -> None:
    """Answer PROMPT on standard output; what is piped in is appended to it.

    Beside a PROMPT, standard input is read where it is a file, or a pipe in which something
    comes within 5 seconds; a pipe or file that a shell's loop or script reads from is left to
    it. "-" reads it in any case, to its end; "</dev/null" never.

    What a model thinks before it answers is shown dimmed on standard error where that is a
    terminal, and is no part of the output.

    \b
      openchat-local ask "Why is the sky blue?"
      git diff | openchat-local ask "Write a commit message for this change."
      openchat-local ask -c "Shorter, please."
      openchat-local ask "What is asked of us in @contract.pdf:3-7?"
      openchat-local ask -f notes/ "What do I know about seals?"
    """
    from openchat_local.models.engine.connection import EngineChild

    text = whole_prompt(prompt)
    flags["written"] = "" if flags["raw"] else next((each for each in prompt if each != "-"), "")
    # First of all: the child's imports then run beside ours, on another core.
    child = EngineChild() if flags["engine"] is None else None
    try:
        _answer(text, flags, child)
    except BaseException:
        if child is not None:
            child.close()
        raise


def _answer(text: str, flags: dict[str, Any], child: Any) -> None:
    from openchat_local.app.chats import ChatStore
    from openchat_local.app.engine import engine_for
    from openchat_local.app.paths import ensure_home
    from openchat_local.app.replies.remote import refuse_impossible, refuse_private
    from openchat_local.app.replies.stream import refuse_if_too_long, send_prompt

    overrides = take_overrides(flags)
    if flags["raw"]:
        _make_raw(overrides, flags)
    going_along = GoingAlong(text, flags["written"], flags["attached"])
    flags["limit"] = overrides["sampling"]["max_tokens"]
    schema = _schema(flags["json_schema"])
    home = ensure_home()
    with closing(ChatStore.open(home)) as store:
        chat = _chosen_chat(store, flags)
        settings, kept = _settings(overrides, chat)
        refuse_local(settings, flags | overrides)
        with closing(engine_for(settings, child, force=flags["force"])) as engine:
            engine.start()
            sampling = _sampling(settings, flags["stop"], schema)
            # Before anything is stored: a model that cannot be loaded, or a prompt that does
            # not fit, is told and leaves neither a chat nor a turn without an answer behind.
            loaded = engine.load()
            private = flags["private"] or (chat is not None and chat.private)
            refuse_private(loaded.remote, private=private)
            refuse_impossible(loaded.remote, settings.condition)
            refuse_unknown(loaded, overrides["sampling"])
            text = going_along.prompt(engine, loaded.context)
            if flags["dry_run"]:
                _show(text)
                return
            conversation = _unsent(store, chat, settings, flags, text, loaded)
            refuse_if_too_long(engine, conversation, sampling, settings.context_overflow)
            chat_id = _prepared_chat(store, chat, settings, flags).id
            if flags["private"]:
                engine.forget(chat_id)  # what is kept from before it was private
            send_prompt(store, chat_id, text)
            _say_notes(loaded, sampling)
            store.update_chat(chat_id, **_held_with(settings, kept, loaded))
            try:
                write = _writer(flags, loaded)
                _converse(store, engine, chat_id, sampling, settings.context_overflow, flags, write)
            except OpenChatError:
                if chat is None:
                    _remove_if_refused(store, chat_id)
                raise


def _make_raw(overrides: dict[str, Any], flags: dict[str, Any]) -> None:
    """No template, and nothing in front of the prompt."""
    if overrides.get("template") is not None or flags["system"] is not None:
        raise click.UsageError("With --raw there is neither a template nor a system prompt.")
    overrides["template"] = "raw"
    if not (flags["continue_last"] or flags["chat_id"]):  # a chat keeps what it has
        flags["system"] = ""


def _converse(
    store: ChatStore,
    engine: Any,
    chat_id: str,
    sampling: Sampling,
    overflow: Overflow,
    flags: dict[str, Any],
    write: ReplyWriter,
) -> None:
    from openchat_local.app.replies.stream import Shortened, stream_reply
    from openchat_local.models.engine.protocol import Finished, TextDelta

    interval = 3600.0 if flags["no_stream"] else UPDATE_INTERVAL
    finished: Finished | None = None
    try:
        reply = stream_reply(
            store, engine, chat_id, sampling, overflow=overflow, update_interval=interval
        )
        with closing(reply) as events:
            for event in events:
                if isinstance(event, TextDelta):
                    write.text(event.text)
                elif isinstance(event, Shortened):
                    click.echo(event.sentence(), err=True)
                elif isinstance(event, Finished):
                    finished = event
    finally:
        write.end()
    if finished is not None:
        _say_end(finished, flags, store.branch(chat_id)[-1] if flags["verbose"] else None)


def _show(text: str) -> None:
    writer = ReplyWriter(None, streaming=False)
    writer.text(text)
    writer.end()


def _writer(flags: dict[str, Any], loaded: LoadedModel) -> ReplyWriter:
    marks = None if flags["whole"] else loaded.thoughts
    return ReplyWriter(marks, streaming=not flags["no_stream"])


def _schema(given: str | None) -> Any:
    """A JSON schema, given as itself or as the name of a file that holds it."""
    if given is None:
        return None
    import json
    from pathlib import Path

    text, where = given, "--json-schema"
    if not given.lstrip().startswith("{"):
        where = given
        try:
            text = Path(given).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise OpenChatError(
                f"The JSON schema {given} cannot be read ({reason}): name a file, or give the "
                "schema itself, beginning with '{'."
            ) from error
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise OpenChatError(f"{where} is not JSON ({error}): mend it and try again.") from error
    if not isinstance(schema, dict):
        raise OpenChatError(f"{where} is not a JSON schema: it must be a JSON object.")
    return schema


def _chosen_chat(store: ChatStore, flags: dict[str, Any]) -> Chat | None:
    if flags["chat_id"]:
        return store.find_chat(flags["chat_id"])
    if not flags["continue_last"]:
        return None
    chat = store.latest_chat()
    if chat is None:
        raise OpenChatError("There is no chat to continue: ask without -c first.")
    return chat


def _settings(overrides: dict[str, Any], chat: Chat | None) -> tuple[Settings, dict[str, Any]]:
    """Flags over the chat's own settings over everything else; and the sampling that is the
    chat's own from here on."""
    from openchat_local.app.settings.model import load_settings
    from openchat_local.app.settings.per_chat import chat_fields, effective_settings
    from openchat_local.app.settings.remote_models import remote_model

    settings = load_settings(overrides)
    fields = {} if chat is None else chat_fields(chat)
    now = effective_settings(settings, fields, overrides)
    names = ["model", "condition", "sampling"]
    if chat is not None and chat.model and overrides.get("model") is None:
        refuse_elsewhere(now.model, settings, chat)
    if remote_model(now.model, settings.engines) is None:
        names += ["adapter", "template"]  # which are of a model that is here
    else:
        settings = settings.model_copy(update={"adapter": None, "template": None})
    given = overrides["sampling"].items()
    kept = {name: value for name, value in given if value is not None and name not in FOR_ONE_REPLY}
    return (
        settings.model_copy(update={name: getattr(now, name) for name in names}),
        (fields.get("sampling") or {}) | kept,
    )


def _sampling(settings: Settings, stop: tuple[str, ...], schema: Any) -> Sampling:
    from dataclasses import replace

    return replace(settings.sampling.as_sampling(), stop=stop, json_schema=schema)


def _unsent(
    store: ChatStore,
    chat: Chat | None,
    settings: Settings,
    flags: dict[str, Any],
    text: str,
    loaded: LoadedModel,
) -> Conversation:
    """What the engine will be asked, before any of it is stored."""
    from dataclasses import replace

    from openchat_local.app.replies.prompt import prompted
    from openchat_local.models.conversation import Conversation, Message

    system = flags["system"]
    if chat is None:
        system = settings.system_prompt if system is None else system
        turns = (Message("system", system), Message("user", text))
        return Conversation(turns if system else turns[1:], settings.condition)
    asked = replace(
        chat,
        system_prompt=chat.system_prompt if system is None else system,
        condition=settings.condition,
    )
    return prompted(asked, store.branch(chat.id), text, loaded).conversation


def _remove_if_refused(store: ChatStore, chat_id: str) -> None:
    """Remove a chat that holds nothing but a prompt that the engine would not take."""
    from openchat_local.app.chats import ChatNotFound

    with suppress(ChatNotFound):  # somebody else has deleted it
        messages = store.messages(chat_id)
        replies = [message for message in messages if message.role == "assistant"]
        refused = [not each.content and each.finish_reason == "refused" for each in replies]
        if len(messages) == 2 and refused == [True]:
            store.delete_chat(chat_id)


def _prepared_chat(
    store: ChatStore, chat: Chat | None, settings: Settings, flags: dict[str, Any]
) -> Chat:
    if chat is None:
        system = settings.system_prompt if flags["system"] is None else flags["system"]
        return store.new_chat(system_prompt=system, private=flags["private"])
    if flags["system"] is not None:
        store.set_system_prompt(chat.id, flags["system"])
    if flags["private"]:
        store.set_private(chat.id, True)
    return chat


def _held_with(settings: Settings, sampling: dict[str, Any], loaded: LoadedModel) -> ChatFields:
    return {
        "sampling": sampling or None,
        "model": settings.model if loaded.remote is None else loaded.name,
        "adapter": settings.adapter,
        "template": settings.template,
        "condition": settings.condition,
    }


def _say_notes(loaded: LoadedModel, sampling: Sampling) -> None:
    from openchat_local.app.replies.thinking import without_effect

    for note in (loaded.template_note, *loaded.notes, without_effect(loaded, sampling.thinking)):
        if note:
            click.echo(printable(note), err=True)  # it may quote the model file


def _say_end(finished: Finished, flags: dict[str, Any], reply: StoredMessage | None) -> None:
    """What there is to be said after a reply; with the reply itself also what it cost."""
    from openchat_local.app.chats.who_wrote import who_wrote
    from openchat_local.app.replies.stream import limit_sentence

    said, usage = finished.note, finished.usage
    # A limit that was asked for is no news, but that there is no answer is.
    told = flags["limit"] is None or usage.reasoning_tokens == usage.generated_tokens
    if said is None and told and finished.complete:
        goes_on = "ask -c continues the chat, --max-tokens 0 asks without a limit"
        said = limit_sentence(finished, goes_on)
    if said:
        click.echo(said, err=True)
    if reply is not None:
        who = who_wrote(reply)
        about = f"{who.in_words()} · " if who else ""
        click.echo(
            f"{about}{_prompt(usage)} · "
            f"reply {usage.generated_tokens} tokens at {usage.tokens_per_second:.1f} tokens/s"
            f"{_thought(usage)}{_drafted(usage)} · "
            f"first token after {usage.time_to_first_token:.2f} s · {finished.reason}",
            err=True,
        )
    if not finished.complete:
        raise OpenChatError(_incomplete(finished))


def _thought(usage: Usage) -> str:
    if not usage.reasoning_tokens:
        return ""
    return f", {usage.reasoning_tokens} of them thoughts in {usage.reasoning_seconds:.2f} s"


def _prompt(usage: Usage) -> str:
    if not usage.prompt_tokens:  # of a remote engine that does not tell
        return "prompt not counted"
    return (
        f"prompt {usage.prompt_tokens} tokens ({usage.reused_tokens} reused, "
        f"{usage.evaluated_tokens} evaluated in {usage.prefill_seconds:.2f} s)"
    )


def _drafted(usage: Usage) -> str:
    accepted, drafted = usage.accepted_tokens, usage.drafted_tokens
    return f", {accepted} of {drafted} drafted ones accepted" if drafted else ""


def _incomplete(finished: Finished) -> str:
    count = f"{finished.usage.generated_tokens:,} tokens"
    if finished.reason == "stop":
        return f"The reply is not complete JSON: --stop ended it after {count}; leave that out."
    return (
        f"The reply is not complete JSON: it was cut after {count}; raise --max-tokens (0 is no "
        "limit), or bound the schema with maxLength and maxItems."
    )
