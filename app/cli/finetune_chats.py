"""`finetune --from-chats`: the rows of one's own chats, gathered and put into a run's folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.cli.chat_selection import take_selection, tell
from openchat_local.app.cli.finetune_options import take_reading
from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from openchat_local.app.learning.feedback import Lesson

NAME = "my-chats"
"""What an adapter is called that is given no name."""


@dataclass(frozen=True, slots=True)
class ChatRows:
    """Rows of chats, and those of the files that are mixed in."""

    lessons: tuple[Lesson, ...]
    more: tuple[Mapping[str, Any], ...]

    def write_into(self, run: Path) -> None:
        """Write them where the run in this folder reads them. Raises OpenChatError."""
        from openchat_local.app.learning.lineage import note_chats
        from openchat_local.app.learning.rows_file import write_into_run

        write_into_run(run, self.lessons, self.more)
        note_chats(run, self.lessons)


def gather_rows(files: tuple[Path, ...], flags: dict[str, Any]) -> ChatRows:
    """What the chats that the flags name teach; the flags of the selection are removed.

    Says what is left out. Raises OpenChatError where there is too little, or chats cannot be
    read."""
    from openchat_local.app.cli.open_chats import reading_store
    from openchat_local.app.learning.extra_files import extra_rows
    from openchat_local.app.learning.rules import rules_of
    from openchat_local.app.learning.selecting import (
        gather,
        left_out_in_words,
        remarks,
        shortfall,
    )
    from openchat_local.app.settings.model import load_settings
    from openchat_local.finetune.data.survey import survey

    rules, reading = rules_of(load_settings()), take_reading(flags)
    with reading_store() as store:
        found = gather(store, take_selection(flags, store), rules)
    tell([*left_out_in_words(found.left_out), *remarks(found.lessons)])
    mix = tuple(file.expanduser().absolute() for file in files)
    missing = shortfall(found.lessons)
    if missing and (not found.lessons or not mix):
        raise OpenChatError(missing)
    if missing:
        tell([missing])
    for file in mix:
        tell(survey(file, reading, lambda _: None).taken)
    more = extra_rows(mix, rules, reading, skip_bad=flags["skip_bad"])
    return ChatRows(found.lessons, tuple(more))
