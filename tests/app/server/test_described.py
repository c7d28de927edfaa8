"""What the OpenAPI description says is so, whatever is made of it: schemathesis looks."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from openchat_local.app.server.docs import description
from support.serving import Client

from .conftest import World

SCHEMA = schemathesis.openapi.from_dict(description())
OPERATIONS = {
    f"{operation.ok().method.upper()} {operation.ok().path}": operation.ok()
    for operation in SCHEMA.get_all_operations()
}
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_answers_are_as_described(name: str, client: Client, world: World) -> None:
    operation = OPERATIONS[name]
    good, bad = (operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @given(st.one_of(good, bad))
    @settings(
        max_examples=12, deadline=None, derandomize=True, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def look(case: Any) -> None:
        case.call_and_validate(base_url=client.url, checks=CHECKS)

    look()
    assert world.bugs == []
    assert world.serving.places.taken == 0
