"""Where an engine answers, from what a person writes."""

from __future__ import annotations

import pytest

from openchat_local.models.engine.remote.address import (
    AddressError,
    looks_like_address,
    read_address,
)


@pytest.mark.parametrize(
    ("written", "base", "root", "loopback"),
    [
        ("https://x.org/v1", "https://x.org/v1", "https://x.org", False),
        ("https://x.org/", "https://x.org/v1", "https://x.org", False),
        ("http://10.0.0.5:8000/v1/", "http://10.0.0.5:8000/v1", "http://10.0.0.5:8000", False),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1", "http://127.0.0.1:8080", True),
        ("localhost:8080", "http://localhost:8080/v1", "http://localhost:8080", True),
        ("127.0.0.1:8080", "http://127.0.0.1:8080/v1", "http://127.0.0.1:8080", True),
        ("http://[::1]:8080", "http://[::1]:8080/v1", "http://[::1]:8080", True),
        ("https://x.org/openai/v1", "https://x.org/openai/v1", "https://x.org/openai", False),
        ("http://127.0.0.1.x.org/v1", "http://127.0.0.1.x.org/v1", "http://127.0.0.1.x.org", False),
        ("http://localhost.x.org", "http://localhost.x.org/v1", "http://localhost.x.org", False),
    ],
)
def test_a_url_is_read(written: str, base: str, root: str, loopback: bool) -> None:
    address = read_address(written)
    assert (address.base, address.root, address.loopback) == (base, root, loopback)
    assert looks_like_address(written)
    assert read_address(address.label) == address


@pytest.mark.parametrize(
    "written",
    [
        "",
        "ftp://x.org",
        "file:///etc/passwd",
        "http://",
        "example.com:80",
        "http://a b/",
        "http://x:y/",
    ],
)
def test_what_is_no_url_is_refused(written: str) -> None:
    with pytest.raises(AddressError, match="give one such as"):
        read_address(written)


@pytest.mark.parametrize("written", ["https://me:secret@x.org/v1", "https://x.org/v1?key=secret"])
def test_a_url_that_holds_a_secret_is_refused_without_repeating_it(written: str) -> None:
    with pytest.raises(AddressError, match="--api-key-env") as refused:
        read_address(written)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["openai", "my.engine", "gpt:4", "example.com:80"])
def test_a_name_is_no_address(name: str) -> None:
    assert not looks_like_address(name)
