"""The files that go along with the prompt of `ask`: named on standard error before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from openchat_local.app.printable import one_line
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.replies.reading import Attached
    from openchat_local.models.engine.protocol import Engine


def with_files(text: str, written: str, paths: Sequence[str], engine: Engine, context: int) -> str:
    """The prompt with what goes along: the files that `written`, what stands in the command's
    argument, mentions, and those of `paths`. Nothing that was piped in mentions a file: it may be
    anybody's.

    Says on standard error what it is. Raises OpenChatError for a document, a folder or one of
    `paths` that cannot be had.
    """
    from dataclasses import replace

    from openchat_local.app.replies.gathering import gather, missing, room_in
    from openchat_local.app.replies.mentions import named, without_mentions
    from openchat_local.app.replies.reading import AttachmentError, Shelf, Wish

    shelf, room = Shelf(), room_in(context)
    gathered = gather(written, shelf, room=room)
    if gathered.held_back_by is not None:
        raise gathered.held_back_by
    found = list(gathered.attached)
    for path in paths:
        mention = named(path)
        if mention.path.is_dir() and not mention.is_folder:  # a shell completes it without a slash
            mention = replace(mention, name=f"{path}/")
        if not mention.exists:
            raise OpenChatError(f"--attach {one_line(path)}: there is no such file or folder.")
        if any(each.mention.path == mention.path for each in found):
            continue
        try:
            attached = shelf.attached(mention, Wish(without_mentions(text), room))
        except AttachmentError as problem:
            raise OpenChatError(problem.alone) from None
        if attached is not None:
            found.append(attached)
    for sentence in [*missing(written), *map(str, gathered.problems)]:
        click.echo(one_line(sentence), err=True)
    _say(found, engine, context)
    return "\n\n".join([text, *(each.text for each in found)])


def _say(found: Sequence[Attached], engine: Engine, context: int) -> None:
    from openchat_local.app.replies.fitting import counting, described
    from openchat_local.models.engine.context_window import REPLY_SHARE

    count = counting(engine) if found else None
    for each in found:
        line = described(each, count, context - context // REPLY_SHARE)
        click.echo(one_line(line), err=True)
        if each.mention.is_folder:
            for part in each.parts:
                click.echo(f"  {one_line(part.name)}, {len(part.text):,} characters", err=True)
            for note in each.notes:
                click.echo(f"  {one_line(note)}", err=True)
