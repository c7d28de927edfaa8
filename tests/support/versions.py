"""Adapters as training leaves them: installed, with their runs, held-out rows and parents."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from openchat_local.finetune.data.batches import Row
from openchat_local.finetune.data.rows import RowWriter
from openchat_local.models.library.adapters import AdapterLibrary, InstalledAdapter

CLASSES = (
    {"name": "expert", "condition": "Expert", "reward": 1.0},
    {"name": "middle", "condition": "Middle", "reward": 0.5},
)


def install(
    home: Path,
    name: str,
    adapter: Path,
    *,
    parent: str | None = None,
    held_out: Sequence[Row] = (),
    trained: Sequence[Row] = (),
    counts: Mapping[str, int] | None = None,
    data: Path | None = None,
    begun: float = 1_760_000_000.0,
) -> InstalledAdapter:
    """The adapter under that name as a run in home/runs/NAME would have installed it."""
    library = AdapterLibrary(home / "adapters")
    run = home / "runs" / name
    run.mkdir(parents=True)
    shutil.copyfile(adapter, run / "adapter.gguf")
    for part, rows in (("train", trained), ("validation", held_out)):
        with RowWriter(run / "data" / part) as writer:
            for row in rows:
                writer.append(row)
    settings = {"name": name, "base": "base.gguf", "data": str(data or "rows.jsonl")}
    facts: dict[str, Any] = {"settings": settings, "classes": list(CLASSES)}
    if parent is not None:
        run_id = library.facts(parent)["run"]
        facts["parent"] = {"name": parent, "path": "", "sha256": "", "run": run_id}
    noted = {
        "id": f"run-of-{name}", "name": name, "begun": begun, "base": {"name": "tiny"},
        "outcome": {"ending": "finished"},
        "data": {
            "train": {
                "classes": [
                    {"rule": {"name": one}, "conversations": count}
                    for one, count in (counts or {}).items()
                ]
            }
        },
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(noted | facts))
    (run / "report.html").write_text("<html></html>")
    facts |= {"run": noted["id"], "run_folder": f"runs/{name}"}
    return library.add(name, run / "adapter.gguf", facts=facts)
