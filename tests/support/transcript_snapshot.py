"""A transcript as text to be compared: every row of the screen, and the styles on it by name.

Names and not colours: a new version of a theme is no change of ours.
"""

from __future__ import annotations

import os
from pathlib import Path

from openchat_local.app.tui.widgets.row_painter import look_of
from openchat_local.app.tui.widgets.transcript import Transcript

FOLDER = Path(__file__).parents[1] / "app" / "tui" / "snapshots"


def picture(transcript: Transcript) -> str:
    """The rows as they are painted, each followed by its styles."""
    lines: list[str] = []
    top = transcript.scroll_offset.y
    for y in range(transcript.size.height):
        lines.append(transcript.render_line(y).text.rstrip())
        place = transcript.laid_out.place(top + y)
        runs, kind = transcript.laid_out.runs(place)
        look = look_of(transcript.laid_out, place, transcript.selected_key, transcript.finder)
        styles = [f"{names}={text}" for text, names in runs if names]
        marks = ["faded"] if look.faded else []
        for start, end, current in look.hits:
            marks.append(f"{'current-hit' if current else 'hit'}={start}-{end}")
        said = [*([f"on {kind}"] if kind not in ("", "reply") else []), *marks, *styles]
        if said:
            lines.append("      ~ " + " | ".join(said))
    return "\n".join(lines) + "\n"


def check(name: str, text: str) -> None:
    """Compare with the file of that name; `SNAPSHOTS=write` writes it instead."""
    path = FOLDER / f"{name}.txt"
    if os.environ.get("SNAPSHOTS") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, (
        f"{path.name} shows something else now; if that is meant, run the test with "
        "SNAPSHOTS=write and look at the difference"
    )
