"""`serve` as a process: what it says, how it ends, and what it refuses to begin."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from openchat_local.app.cli.main import main
from openchat_local.app.server.running import check_certificate, listen, server_of, within
from openchat_local.finetune.run.giving_way import somebody_replies
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.serving import serving_program as served

KEY = "a-key-of-24-characters-x"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A tiny model, and an adapter of it."""
    folder = tmp_path_factory.mktemp("serve")
    model = write_model(
        folder / "tiny.gguf", openchat_vocabulary(), name="openchat-3.5", embedding=64, heads=2,
        kv_heads=1, blocks=1,
    )  # fmt: skip
    return model, write_random_adapter(folder / "mine.gguf", model, size=0.5)


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_it_serves_and_at_sigterm_lets_everybody_finish(
    files: tuple[Path, Path], home: Path
) -> None:
    model, adapter = files
    with served("-m", model, "--adapter", adapter, "--context", "2048") as (process, client):
        listed = [one["id"] for one in client.get("/v1/models").json["data"]]
        assert listed == ["tiny", "tiny:mine"]
        assert client.chat().json["model"] == "tiny:mine"  # the one that was asked for
        body = json.dumps({"messages": [{"role": "user", "content": "secret"}], "stream": True,
                           "temperature": 0, "max_tokens": -1}).encode()  # fmt: skip
        with client.socket() as stream:
            stream.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n"
                b"Content-Type: application/json\r\n\r\n%s" % (len(body), body)
            )
            data = stream.recv(15)
            assert somebody_replies(home)  # training gives way
            process.send_signal(signal.SIGTERM)
            while part := stream.recv(65536):
                data += part
        assert data.startswith(b"HTTP/1.1 200 OK")
        assert b'"finish_reason":"length"' in data
        assert b"data: [DONE]" in data
        assert not somebody_replies(home)
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "secret" not in out + errors
        assert errors.count("POST /v1/chat/completions 200") == 2


@pytest.mark.skipif(os.name == "nt", reason="signals are POSIX")
def test_a_key_from_the_environment_is_asked_for_and_ctrl_c_ends_it(
    files: tuple[Path, Path],
) -> None:
    with served("-m", files[0], OPENCHAT_LOCAL_API_KEY=KEY) as (process, client):
        assert client.get("/v1/models").status == 401
        assert client.get("/v1/models", Authorization=f"Bearer {KEY}").status == 200
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0


def test_what_cannot_be_served_is_one_sentence(
    files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weak = tmp_path / "weak"
    weak.write_text("short\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, said in (
            (("--port", port), f"port {port}"),
            (("--host", "0.0.0.0"), "API key"),
            (("--host", "no.such.host.invalid"), "no address"),
            (("--host", "192.0.2.1", "--api-key-file", str(weak)), "too weak"),
            (("--api-key-file", str(tmp_path / "none")), "cannot be read"),
            (("--allow-origin", "*"), "no origin"),
            (("--tls-cert", str(weak), "--tls-key", str(weak)), "certificate"),
            (("--adapter", "nobody"), "nobody"),
        ):
            free = () if "--port" in arguments else ("--port", "0")
            assert main(["serve", "-m", str(files[0]), *free, *arguments]) == 1
            out, errors = capsys.readouterr()
            assert (out, errors.count("\n")) == ("", 1)
            assert said in errors
            assert "short" not in errors.replace(str(tmp_path), "").replace("shorten", "")


def test_a_certificate_is_shown(files: tuple[Path, Path], tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl to make a certificate with")
    subprocess.run(
        [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    check_certificate(cert, key)
    place = listen("127.0.0.1", 0, secured=False, certificate=(cert, key))
    assert place.url.startswith("https://127.0.0.1:")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    inner = within(place)  # where windows in a browser ask
    assert inner.url.startswith("http://127.0.0.1:")
    server = server_of(app, place.certificate, inner=inner.socket)
    thread = threading.Thread(target=server.run, args=([place.socket],))
    thread.start()
    trusted = ssl.create_default_context(cafile=str(cert))
    connection = http.client.HTTPSConnection(*place.socket.getsockname(), context=trusted)
    connection.request("GET", "/")
    assert connection.getresponse().status == 204
    connection.close()
    plain = http.client.HTTPConnection(*inner.socket.getsockname())
    plain.request("GET", "/")
    assert plain.getresponse().status == 204
    plain.close()
    server.should_exit = True
    thread.join()


def test_what_a_client_wants_to_know_is_printed_without_serving(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, adapter = files
    monkeypatch.setenv("OPENCHAT_LOCAL_API_KEY", KEY)
    arguments = ["-m", str(model), "--adapter", str(adapter), "--print-config", "aider"]
    assert main(["serve", *arguments]) == 0
    out = capsys.readouterr().out
    assert "http://127.0.0.1:8080/v1" in out
    assert "openai/tiny:mine" in out
    assert KEY not in out
