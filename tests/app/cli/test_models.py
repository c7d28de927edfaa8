"""`models`, as a shell sees it; its hub is a real server on loopback."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapters import AdapterLibrary
from openchat_local.models.library.catalog import catalog
from support.adapters import write_random_adapter
from support.hub import FILE, REPOSITORY, Answer, FakeHub, fake_hub
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import PROGRAM, run_here


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 5 MB that answers."""
    folder = tmp_path_factory.mktemp("tiny")
    return write_model(
        folder / "tiny.F16.gguf", openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1
    )


@pytest.fixture
def hub(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with fake_hub() as hub:
        hub.repositories[REPOSITORY] = {FILE: tiny.read_bytes()}
        for name, value in (hub.environment() | {"HF_HOME": str(tmp_path / "hf")}).items():
            monkeypatch.setenv(name, value)
        yield hub


def pull(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_here("models", "pull", *arguments, **environment)


def test_from_nothing_to_a_chat_with_openchat_in_two_commands(hub: FakeHub, home: Path) -> None:
    done = pull("openchat-3.5")
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "openchat-3.5:Q4_K_M is installed and verified: "
        "openchat-local chat -m openchat-3.5:Q4_K_M\n"
    )
    assert f"{REPOSITORY}/{FILE}" in done.stderr
    answered = run_here("ask", "Hello", "-m", "openchat-3.5", "--max-tokens", "3")
    assert (answered.returncode, answered.stderr) == (0, "")
    assert pull("openchat-3.5:q4_k_m").stdout.startswith("openchat-3.5:Q4_K_M is there")
    assert oct((home / "models").parent.stat().st_mode)[-3:] == "700"


def test_killed_in_mid_download_it_goes_on_where_it_stopped(hub: FakeHub, home: Path) -> None:
    hub.content = [Answer(after=2_000_000, stall=True)]
    process = subprocess.Popen(
        [*PROGRAM, "models", "pull", "openchat-3.5"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    part = home / "models" / ".parts" / f"{hub.sha256(REPOSITORY, FILE)}.part"
    for _ in range(3000):
        with suppress(FileNotFoundError):
            if part.stat().st_size == 2_000_000:
                break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert part.stat().st_size == 2_000_000
    assert "none is installed yet" in run_here("models", "verify", "openchat-3.5").stderr
    (begun,) = (line for line in run_here("models", "list").stdout.splitlines() if "here" in line)
    assert begun.split()[0] == "openchat-3.5:Q4_K_M"
    assert begun.endswith(" here: models pull openchat-3.5:Q4_K_M")

    assert pull("openchat-3.5").returncode == 0
    assert hub.content_requests()[-1].headers["range"] == "bytes=2000000-"
    assert hub.served == len(hub.repositories[REPOSITORY][FILE])
    assert "whole" in run_here("models", "verify", "openchat-3.5").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sets no limits of this kind")
def test_a_disk_that_fills_up_is_one_sentence_and_the_part_stays(hub: FakeHub, home: Path) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000,) * 2);"
        "from openchat_local.app.cli.main import main; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "models", "pull", "openchat-3.5"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is full after 1.0 of" in done.stderr
    assert "the same command continues from there" in done.stderr
    assert pull("openchat-3.5").returncode == 0
    assert hub.content_requests()[-1].headers["range"] == "bytes=1000000-"


def test_a_small_disk_is_noticed_before_anything_is_fetched(hub: FakeHub, tmp_path: Path) -> None:
    command = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*command, "true"]).returncode:
        pytest.skip("this system lets no user mount a disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    script = 'mount -t tmpfs -o size=3m none "$1" && shift && exec "$@"'
    done = subprocess.run(
        [*command, "sh", "-c", script, "sh", str(disk), *PROGRAM, "models", "pull", "openchat-3.5"],
        env=os.environ | {"OPENCHAT_LOCAL_HOME": str(disk / "home")},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert re.search(r"has \d\.\d MB free and the model needs 5\.0 MB", done.stderr)
    assert hub.served == 0


def test_what_came_of_an_unfinished_pull_can_be_removed(hub: FakeHub, home: Path) -> None:
    hub.content = [Answer(after=1_000_000, cut=True), Answer(403)]
    assert pull("openchat-3.5").returncode == 1
    removed = run_here("models", "remove", "-y", "openchat-3.5:Q4_K_M")
    assert removed.stdout == "The part of openchat-3.5:Q4_K_M removed; 1.0 MB freed.\n"
    assert list((home / "models" / ".parts").iterdir()) == []


def test_a_pull_counts_the_kv_cache_as_it_is_set(hub: FakeHub, tiny: Path, home: Path) -> None:
    hub.repositories[REPOSITORY][FILE.replace("Q4_K_M", "Q2_K")] = tiny.read_bytes()[:-1]
    needs = []
    for kv_type in ("f16", "q8_0"):
        done = pull("openchat-3.5", OPENCHAT_LOCAL_KV__TYPE=kv_type)
        needs += re.findall(r"([\d.]+) GiB of memory", done.stderr)
    assert float(needs[0]) > float(needs[1])


def test_two_pulls_at_once_fetch_the_file_once(hub: FakeHub) -> None:
    hub.content = [Answer(after=1_000_000, stall=True)]
    command = [*PROGRAM, "models", "pull", "openchat-3.5"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as first:
        assert hub.stalled.wait(30)
        second = pull("openchat-3.5")
        assert second.returncode == 1
        assert "is being fetched by another openchat-local: wait for that one" in second.stderr
        hub.may_go_on.set()
        assert first.wait(60) == 0
        first.communicate()
    assert hub.served == len(hub.repositories[REPOSITORY][FILE])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(401, {"X-Error-Code": "GatedRepo"}), "accept them at huggingface.co/"),
        (Answer(403), "forbids you"),
        (Answer(404, {"X-Error-Code": "RepoNotFound"}), "has no repository"),
        (Answer(429, {"Retry-After": "3600"}), "try again in 60 min"),
    ],
)
def test_a_refusal_is_one_sentence(answer: Answer, said: str, hub: FakeHub) -> None:
    hub.api = [answer]
    done = pull("openchat-3.5")
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.startswith("openchat-local: ")
    assert done.stderr.count("\n") == 1


def test_offline_refuses_in_one_sentence(hub: FakeHub) -> None:
    for done in (
        run_here("--offline", "models", "pull", "openchat-3.5"),
        pull("openchat-3.5", OPENCHAT_LOCAL_OFFLINE="1"),
        pull("openchat-3.5", HF_HUB_OFFLINE="1"),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.count("\n") == 1
        assert "needs the network" in done.stderr
    assert hub.requests == []
    offline = run_here("--offline", "ask", "Hi", "--max-tokens", "2")
    assert offline.returncode == 0, offline.stderr


def test_list_shows_what_is_here_and_what_could_be(tiny: Path) -> None:
    run_here("models", "add", tiny, "--name", "openchat-3.6")
    *lines, last = run_here("models", "list").stdout.splitlines()
    others = [name for name in catalog() if name not in ("starter", "openchat-3.6")]
    assert [line.split()[0] for line in lines] == ["starter", "openchat-3.6:F16", *others]
    assert last == "To fetch one: openchat-local models pull NAME"
    assert all(len(line) < 80 for line in lines)
    assert all("fits" in line or "tight" in line or "does not fit" in line for line in lines)
    rows = [json.loads(line) for line in run_here("models", "list", "--json").stdout.splitlines()]
    by_name = {row["name"]: row for row in rows}
    assert by_name["starter"]["bytes"] == read_gguf(by_name["starter"]["path"]).file_size
    assert by_name["openchat-3.6:F16"]["state"] == "installed"
    assert by_name["openchat-3.5"]["estimated"] is True
    assert 4.0e9 < by_name["openchat-3.5"]["bytes"] < 4.8e9


def test_a_damaged_card_is_told_and_the_others_are_listed(home: Path, tiny: Path) -> None:
    run_here("models", "add", tiny)
    (home / "models" / "bad@F16").mkdir()
    (home / "models" / "bad@F16" / "model.json").write_text("{}")
    done = run_here("models", "list")
    assert done.returncode == 0
    assert "tiny:F16" in done.stdout
    assert "bad@F16" in done.stderr
    assert done.stderr.count("\n") == 1


def test_add_info_path_verify_and_remove(home: Path, tiny: Path) -> None:
    added = run_here("models", "add", tiny)
    assert added.stdout == "tiny:F16 is installed: openchat-local chat -m tiny:F16\n"
    path = Path(run_here("models", "path", "tiny").stdout.strip())
    assert path.read_bytes() == tiny.read_bytes()
    assert run_here("models", "path").stdout.strip() == str(home / "models")

    shown = run_here("models", "info", "tiny").stdout
    assert "tensors: F16 8, F32 3" in shown
    assert "template: openchat-3.5" in shown
    assert "special tokens: bos 1 <s>, eos 32000 <|end_of_turn|>" in shown
    facts = json.loads(run_here("models", "info", str(tiny), "--json").stdout)
    assert (facts["quantisation"], facts["context"]) == ("F16", 8192)
    assert facts["sha256"] is None  # a file that nobody installed

    assert run_here("models", "verify").stdout.count("  whole  sha256 ") == 2
    with path.open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"?")
    damaged = run_here("models", "verify")
    assert damaged.returncode == 1
    assert "starter  whole" in damaged.stdout
    assert "The model tiny:F16 is damaged" in damaged.stderr
    assert "1 of the models cannot be trusted" in damaged.stderr

    refused = run_here("models", "remove", "tiny", stdin="n\n")
    assert refused.returncode == 1
    assert path.exists()
    removed = run_here("models", "remove", "tiny", "--yes")
    assert removed.stdout == f"tiny:F16 removed; {tiny.stat().st_size / 1e6:.1f} MB freed.\n"
    assert not path.exists()


def test_a_link_frees_nothing_and_the_file_stays(tiny: Path) -> None:
    run_here("models", "add", tiny, "--link", "--name", "linked")
    assert "  linked\n" in run_here("models", "list").stdout
    removed = run_here("models", "remove", "-y", "linked")
    assert (
        removed.stdout == f"linked:F16 removed; nothing freed: it was a link, and {tiny} stays.\n"
    )
    assert tiny.is_file()


def test_a_model_that_an_adapter_needs_is_not_removed(home: Path, tiny: Path) -> None:
    run_here("models", "add", tiny)
    adapter = write_random_adapter(home / "a.gguf", tiny, targets=("attn_q",))
    AdapterLibrary(home / "adapters").add("mine", adapter)
    refused = run_here("models", "remove", "-y", "tiny")
    assert refused.returncode == 1
    assert "is needed by the adapter mine" in refused.stderr
    assert run_here("models", "remove", "-y", "--force", "tiny").returncode == 0


CHAT = """
import sys
from pathlib import Path
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
engine = LocalEngine(EngineOptions(Path(sys.argv[1]), context=256))
engine.load()
print("loaded", flush=True)
sys.stdin.read()
"""


def test_a_model_that_a_running_engine_uses_is_not_removed(tiny: Path) -> None:
    run_here("models", "add", tiny)
    path = run_here("models", "path", "tiny").stdout.strip()
    with subprocess.Popen(
        [sys.executable, "-c", CHAT, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as chat:
        assert chat.stdout is not None
        assert chat.stdout.readline() == b"loaded\n"
        refused = run_here("models", "remove", "-y", "tiny")
        assert refused.returncode == 1
        assert "is in use by another openchat-local" in refused.stderr
        chat.kill()  # and its engine dies with it
    for _ in range(500):
        if run_here("models", "remove", "-y", "tiny").returncode == 0:
            return
        time.sleep(0.02)
    raise AssertionError("the model stayed in use")


def test_models_of_other_programs_are_offered(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HF_HOME", raising=False)
    theirs = tmp_path / ".lmstudio/models/some/one/tiny.F16.gguf"
    theirs.parent.mkdir(parents=True)
    shutil.copy(tiny, theirs)
    for command in (("models", "add"), ("models", "list", "--found")):
        shown = run_here(*command).stdout
        assert shown.splitlines()[0].endswith("LM Studio")
        assert f"openchat-local models add --link --name tiny {theirs}" in shown
    assert run_here("models", "add", "--link", "--name", "tiny", theirs).returncode == 0
    assert "is linked already" in run_here("models", "add").stdout


@pytest.mark.parametrize("command", ["info", "remove", "verify", "path"])
def test_an_unknown_name_is_one_sentence(command: str) -> None:
    done = run_here("models", command, "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert "named 'nope'" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_could_be_pulled_is_told_where_it_is_asked_for() -> None:
    done = run_here("ask", "Hi", "-m", "openchat-3.5:Q8_0")
    assert done.returncode == 1
    assert "fetch it with openchat-local models pull openchat-3.5:Q8_0" in done.stderr
