"""What the list of models and `doctor` say of memory: one number, for the cache that is set."""

from __future__ import annotations

import pytest

from openchat_local.app.doctor.holdings import chosen_model
from openchat_local.app.engine import installed_models
from openchat_local.app.model_rows import lines, model_rows, recommended
from openchat_local.models.memory import MachineMemory


def starter_need() -> int:
    rows, _ = model_rows(installed_models())
    return next(row.need for row in rows if row.reference == "starter")


def test_the_type_of_the_cache_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = starter_need()
    monkeypatch.setenv("OPENCHAT_LOCAL_KV__TYPE", "q8_0")
    smaller = starter_need()
    assert usual - smaller == 8192 * 30 * 3 * 128 * (64 - 34) // 32
    (finding,) = chosen_model()
    assert finding.facts["need"] == smaller


@pytest.mark.parametrize(
    ("free", "name"),
    [(1.8, "gemma-3-1b"), (3.5, "smollm3-3b"), (5, "qwen3-4b"), (10, "openchat-3.5"), (0.2, None)],
    ids=["4GB", "8GB-busy", "8GB", "16GB", "none"],
)
def test_who_has_no_model_is_told_of_one_that_fits(
    free: float, name: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = MachineMemory(int(2 * free * 1024**3), int(free * 1024**3))
    monkeypatch.setattr("openchat_local.app.model_rows.machine_memory", lambda: memory)
    rows, _ = model_rows(installed_models())
    one = recommended(rows)
    assert (one and one.reference) == name
    said = [*lines(rows)]
    assert any("Apache-2.0" in line for line in said if line.startswith("qwen3-0.6b"))
    assert said[-1].endswith(f"openchat-local models pull {name or 'NAME'}")
