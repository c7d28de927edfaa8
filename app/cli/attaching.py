"""The files that go along with the prompt of `ask`: named on standard error before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from openchat_local.app.printable import one_line
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.replies.mentions import Mention
    from openchat_local.app.replies.reading import Attached
    from openchat_local.models.engine.protocol import Engine


class GoingAlong:
    """What `written`, which stands in the command's argument, mentions, and the files of `paths`.
    Nothing that was piped in mentions a file: it may be anybody's.

    Reads all of it at once, so that a model is loaded for nothing that cannot be had. Raises
    OpenChatError for a document, a folder or one of `paths` that cannot be had.
    """

    def __init__(self, text: str, written: str, paths: Sequence[str]) -> None:
        self._text = text
        self._written = written
        self._paths = paths
        if self.any:
            from openchat_local.app.replies.gathering import FOLDER_TOKENS
            from openchat_local.app.replies.reading import Shelf

            self._shelf = Shelf()
            self._gathered(FOLDER_TOKENS)

    @property
    def any(self) -> bool:
        return "@" in self._written or bool(self._paths)

    def prompt(self, engine: Engine, context: int) -> str:
        """The prompt with what goes along in a context of so many tokens, which is told."""
        if not self.any:
            return self._text
        from openchat_local.app.replies.gathering import missing, room_in

        found, problems = self._gathered(room_in(context))
        for sentence in [*missing(self._written), *problems]:
            click.echo(one_line(sentence), err=True)
        _say(found, engine, context)
        return "\n\n".join([self._text, *(each.text for each in found)])

    def _gathered(self, room: int) -> tuple[list[Attached], list[str]]:
        """What goes along, and why some words stay words."""
        from openchat_local.app.replies.gathering import gather
        from openchat_local.app.replies.mentions import without_mentions
        from openchat_local.app.replies.reading import AttachmentError, Wish

        gathered = gather(self._written, self._shelf, room=room)
        if gathered.held_back_by is not None:
            raise gathered.held_back_by
        found = list(gathered.attached)
        wish = Wish(without_mentions(self._text), room)
        for mention in map(_named, self._paths):
            if any(each.mention.path == mention.path for each in found):
                continue
            try:
                attached = self._shelf.attached(mention, wish)
            except AttachmentError as problem:
                raise OpenChatError(problem.alone) from None
            if attached is not None:
                found.append(attached)
        return found, list(map(str, gathered.problems))


def _named(path: str) -> Mention:
    from dataclasses import replace

    from openchat_local.app.replies.mentions import named

    mention = named(path)
    if not mention.exists and path.startswith("@"):
        mention = named(path[1:])
    if not mention.exists:
        raise OpenChatError(f"--attach {one_line(path)}: there is no such file or folder.")
    if mention.path.is_dir() and not mention.is_folder:  # a shell completes it without a slash
        return replace(mention, name=f"{mention.name}/")
    return mention


def _say(found: Sequence[Attached], engine: Engine, context: int) -> None:
    from openchat_local.app.replies.fitting import counting, described, room_for

    count = counting(engine) if found else None
    for each in found:
        line = described(each, count, room_for(context), listed=True)
        click.echo(one_line(line), err=True)
        if each.mention.is_searched:
            for part in each.parts:
                click.echo(f"  {one_line(part.name)}, {len(part.text):,} characters", err=True)
