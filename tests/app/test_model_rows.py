"""What the list of models and `doctor` say of memory: one number, for the cache that is set."""

from __future__ import annotations

import pytest

from openchat_local.app.doctor.holdings import chosen_model
from openchat_local.app.engine import installed_models
from openchat_local.app.model_rows import model_rows


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
