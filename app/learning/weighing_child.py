"""The child that weighs lessons: `python -m openchat_local.app.learning.weighing_child MODEL`.

A frame of lessons on stdin is answered by one on stdout, with what each became as a row; the
end of stdin ends it.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from openchat_local.app.learning.weighing import WeighedLesson
from openchat_local.models.engine.wire import FrameWriter, read_frame
from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.child_process import take_over_standard_streams

if TYPE_CHECKING:
    from openchat_local.finetune.data.batches import Row
    from openchat_local.models.template import Template
    from openchat_local.models.template.vocabulary import Vocabulary

MOST_SHOWN = 20_000
"""Tokens of a row whose text is sent back: nobody reads more of one on a screen."""


def main(arguments: list[str]) -> None:
    """Weigh for the model whose file is the first argument, by the template of the second."""
    frames_in, frames_out = take_over_standard_streams()
    os.environ.setdefault("GGML_NO_BACKTRACE", "1")
    out = FrameWriter(frames_out)
    scales: Scales | None = None
    problem = ""
    try:
        scales = Scales(Path(arguments[0]), arguments[1] if arguments[1:] else None)
    except OpenChatError as error:
        problem = str(error)
    while (frame := read_frame(frames_in)) is not None:
        if scales is None:
            out.write({"problem": problem})
            continue
        try:
            weighed = [scales.weigh(one, runs=frame["runs"]) for one in frame["lessons"]]
        except OpenChatError as error:
            out.write({"problem": str(error)})
        else:
            out.write({"weighed": [asdict(one) for one in weighed]})


class Scales:
    """A model's template, and the longest row that a run keeps whole."""

    def __init__(self, model: Path, template: str | None) -> None:
        """Raises ModelFileError, TemplateError."""
        from openchat_local.finetune.data.options import DEFAULT_MAX_LENGTH
        from openchat_local.models.gguf import read_gguf
        from openchat_local.models.template import choose_template
        from openchat_local.models.template.vocabulary import Vocabulary

        base = read_gguf(model)
        self._vocabulary: Vocabulary = Vocabulary.open(base.path)
        self._template: Template = choose_template(base, self._vocabulary, template)
        self._longest = min(DEFAULT_MAX_LENGTH, base.context_length)

    def weigh(self, lesson: dict[str, Any], *, runs: bool) -> WeighedLesson:
        """A lesson as `finetune` would train on it. Raises TemplateError."""
        from openchat_local.finetune.data.crlft import weigh
        from openchat_local.finetune.data.example import Example
        from openchat_local.finetune.data.policy import ClassRule, Policy
        from openchat_local.models.conversation import Message

        system = [Message("system", lesson["system"])] if lesson["system"] else []
        turns = [Message(role, content) for role, content, _ in lesson["turns"]]
        weights = [weight for *_, weight in lesson["turns"]]
        condition = lesson["condition"]
        if condition is None:  # as `decide_policy` has it for the best class, with own headers
            condition = self._template.default_condition
        example = Example(
            1,
            "OpenChat",
            (*system, *turns),
            (*(None for _ in system), *weights),
            lesson["class"],
            condition,
        )
        rule = ClassRule(lesson["class"], condition, lesson["reward"])
        found = weigh(example, Policy((rule,)), self._template, self._longest)
        if found.row is None:
            return WeighedLesson(found.tokens, 0, found.truncated, found.dropped or "")
        learned = int((found.row.weights > 0).sum())
        shown = tuple(_runs(found.row, self._vocabulary)) if runs else ()
        return WeighedLesson(len(found.row.ids), learned, found.truncated, "", shown)


def _runs(row: Row, vocabulary: Vocabulary) -> Iterator[tuple[str, float]]:
    """The text of a row, tokens of one weight together; one that ends in mid-character shows
    with the next."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    ids, weights = row.ids[:MOST_SHOWN].tolist(), row.weights[:MOST_SHOWN].tolist()
    pieces = [
        (decoder.decode(vocabulary.piece(id)), weight)
        for id, weight in zip(ids, weights, strict=True)
    ]
    for weight, run in groupby(pieces, key=itemgetter(1)):
        yield "".join(piece for piece, _ in run), weight


if __name__ == "__main__":
    main(sys.argv[1:])
