"""`render`: the exact prompt of a conversation, as token ids. A debugger's command."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from openchat_local.app.cli.options import template_options
from openchat_local.app.wording import write_json

if TYPE_CHECKING:
    from openchat_local.models.conversation import Conversation, Message

FORM = '[{"role": "user", "content": "Hello"}] or {"messages": [...], "condition": "..."}'


@click.command(
    short_help="Show the token ids of a conversation.",
    epilog=f"Standard input is {FORM}.",
)
@click.option("-m", "--model", metavar="NAME|PATH", help="Whose vocabulary and template to use.")
@click.option("--adapter", metavar="NAME|FILE", help="Whose condition is the default.")
@click.option("--force", is_flag=True, help="Take an adapter of another model, too.")
@template_options
@click.option("--condition", metavar="TEXT", help="C-RLFT condition; '' for none.")
def render(
    model: str | None,
    adapter: str | None,
    force: bool,
    template: str | None,
    condition: str | None,
) -> None:
    """Read messages as JSON; print {"ids": [...], "pieces": [...]} on one line.

    The ids end with the assistant's header, as they do when a reply is asked for.
    """
    from dataclasses import asdict, replace

    from openchat_local.app.engine import local_engine
    from openchat_local.app.settings.model import load_settings

    conversation = parse_conversation(sys.stdin.buffer.read())
    flags = {"model": model, "adapter": adapter, "template": template, "condition": condition}
    settings = load_settings(flags)
    if condition is not None or conversation.condition is None:
        conversation = replace(conversation, condition=settings.condition)
    engine = local_engine(settings, vocab_only=True, force=force)
    try:
        rendered = engine.render(conversation)
    finally:
        engine.close()
    write_json(asdict(rendered))


def parse_conversation(data: bytes) -> Conversation:
    """The conversation in a JSON text; raises OpenChatError, naming the field at fault."""
    import json

    from openchat_local.models.conversation import Conversation
    from openchat_local.models.errors import OpenChatError

    try:
        body = json.loads(data.decode("utf-8-sig"))  # Windows likes to put a BOM in front
    except UnicodeDecodeError as error:
        raise OpenChatError(
            f"Standard input is not UTF-8 (byte {error.start}); give it as UTF-8."
        ) from None
    except json.JSONDecodeError as error:
        raise OpenChatError(
            f"Standard input is not JSON (line {error.lineno}, column {error.colno}: "
            f"{error.msg}); give it as {FORM}."
        ) from None
    except RecursionError:
        raise OpenChatError(
            f"Standard input is JSON nested too deeply; give it as {FORM}."
        ) from None
    if isinstance(body, list):
        body = {"messages": body}
    _check_keys(body, "", required={"messages"}, allowed={"messages", "condition"})
    messages = body["messages"]
    if not isinstance(messages, list) or not messages:
        raise OpenChatError(f"messages: must be a list with at least one message, as in {FORM}.")
    condition = body.get("condition")
    if not isinstance(condition, str | None):
        raise OpenChatError(f"condition: must be a text or null, not {_short(condition)}.")
    return Conversation(
        tuple(_message(message, f"messages[{i}]") for i, message in enumerate(messages)),
        condition,
    )


def _message(value: object, field: str) -> Message:
    from openchat_local.models.conversation import ROLES, Message
    from openchat_local.models.errors import OpenChatError

    _check_keys(value, field, required={"role", "content"}, allowed={"role", "content"})
    assert isinstance(value, dict)
    role, content = value["role"], value["content"]
    if role not in ROLES:
        raise OpenChatError(f"{field}.role: must be one of {', '.join(ROLES)}, not {_short(role)}.")
    if not isinstance(content, str):
        raise OpenChatError(f"{field}.content: must be a text, not {_short(content)}.")
    return Message(role, content)


def _check_keys(value: object, field: str, *, required: set[str], allowed: set[str]) -> None:
    from openchat_local.models.errors import OpenChatError

    where = field or "Standard input"
    if not isinstance(value, dict):
        raise OpenChatError(f"{where}: must be an object, not {_short(value)}; give {FORM}.")
    for key in sorted(required - value.keys()):
        raise OpenChatError(f"{where}: '{key}' is missing; give {FORM}.")
    for key in sorted(value.keys() - allowed):
        raise OpenChatError(
            f"{where}: '{key}' is not known here; remove it (known: {', '.join(sorted(allowed))})."
        )


def _short(value: object) -> str:
    import json

    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
