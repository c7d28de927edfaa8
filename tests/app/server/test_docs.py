"""What the server says of itself."""

from __future__ import annotations

import re

import pytest

from openchat_local.app.server.clients import CLIENTS, config_for
from openchat_local.app.server.docs import description
from support.serving import Client


def test_the_page_takes_nothing_from_another_host(client: Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    text = page.data.decode()
    assert re.findall(r"https?://", text) == []
    for path in description()["paths"]:
        assert path in text


def test_what_is_described_is_there_and_what_is_there_is_described(client: Client) -> None:
    api = client.get("/openapi.json").json
    assert api == description()
    for path, methods in api["paths"].items():
        for method in methods:
            answer = client.ask(method.upper(), path.replace("{id}", "openchat-3.5-tiny"))
            assert answer.status in (200, 415)
    refs = set(
        re.findall(r'"#/components/schemas/(\w+)"', client.get("/openapi.json").data.decode())
    )
    assert refs <= set(api["components"]["schemas"])
    assert "condition" in api["components"]["schemas"]["ChatBody"]["properties"]


@pytest.mark.parametrize("client_name", CLIENTS)
@pytest.mark.parametrize("keyed", [False, True])
def test_each_client_is_told_the_address_and_the_model(client_name: str, keyed: bool) -> None:
    url = "http://127.0.0.1:8080/v1"
    text = config_for(client_name, url, ["base:mine", "base"], 4096, keyed=keyed)
    assert url in text
    assert "base:mine" in text or client_name == "openwebui"
