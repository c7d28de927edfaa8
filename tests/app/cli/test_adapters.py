"""`adapters`, and `--adapter` where there is one, as a shell sees them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapters import AdapterLibrary
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model
from support.programs import run_program


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory, starter_path: Path) -> Path:
    return write_random_adapter(tmp_path_factory.mktemp("adapter") / "some.gguf", starter_path)


@pytest.fixture
def installed(home: Path, adapter: Path) -> AdapterLibrary:
    library = AdapterLibrary(home / "adapters")
    library.add("mine", adapter, facts={"loss": 1.25})
    return library


def newest_branch(home: Path) -> list[StoredMessage]:
    store = ChatStore.open(home)
    try:
        chat = store.latest_chat()
        assert chat is not None
        return store.branch(chat.id)
    finally:
        store.close()


def ask(*arguments: str, **environment: str):  # type: ignore[no-untyped-def]
    greedy = ("--temperature", "0", "--max-tokens", "10")
    return run_program("ask", "Name three animals.", *greedy, *arguments, **environment)


def test_ask_replies_with_the_adapter_and_the_chat_keeps_to_it(
    home: Path, installed: AdapterLibrary
) -> None:
    plain = ask().stdout
    assert newest_branch(home)[-1].adapter is None
    adapted = ask("--adapter", "mine")
    assert (adapted.returncode, adapted.stderr) == (0, "")
    assert adapted.stdout != plain
    reply = newest_branch(home)[-1]
    assert (reply.adapter, reply.condition) == ("mine", "Expert")
    ask("-c")
    assert [m.adapter for m in newest_branch(home) if m.role == "assistant"] == ["mine", "mine"]
    ask("-c", "--adapter", "none")
    assert newest_branch(home)[-1].adapter is None


def test_the_setting_is_an_adapter_as_well(home: Path, adapter: Path) -> None:
    assert ask(OPENCHAT_LOCAL_ADAPTER=str(adapter)).returncode == 0
    assert newest_branch(home)[-1].adapter == "some"


@pytest.mark.parametrize("command", ["ask", "info", "remove", "export", "merge"])
def test_an_unknown_name_is_one_sentence(command: str, tmp_path: Path) -> None:
    rest = {"export": [tmp_path / "out"], "merge": [tmp_path / "out"], "remove": ["-y"]}
    if command == "ask":
        done = ask("--adapter", "nope")
    else:
        done = run_program("adapters", command, "nope", *rest.get(command, []))
    assert (done.returncode, done.stdout) == (1, "")
    assert "There is no adapter named 'nope' (none is installed yet)" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_adapter_of_another_model_is_one_sentence(installed: AdapterLibrary) -> None:
    data = bytearray(installed.resolve("mine").read_bytes())
    start = data.index(b"openchat_local.base.fingerprint") + len("openchat_local.base.fingerprint")
    data[start + 12] ^= 1
    installed.resolve("mine").write_bytes(data)
    done = ask("--adapter", "mine")
    assert (done.returncode, done.stdout) == (1, "")
    assert "The adapter mine was trained on starter, whose fingerprint" in done.stderr
    assert done.stderr.count("\n") == 1
    forced = ask("--adapter", "mine", "--force")
    assert forced.returncode == 0
    assert "used anyway (--force)" in forced.stderr


def test_a_peft_folder_is_installed_for_its_base_and_used_like_another(
    home: Path, tmp_path: Path
) -> None:
    base = write_model(tmp_path / "base.gguf", openchat_vocabulary(), feed_forward=256)
    adapter = write_random_adapter(tmp_path / "a.gguf", base)
    peft = tmp_path / "peft"
    library = AdapterLibrary(home / "adapters")
    library.add("first", adapter)
    assert (
        run_program("adapters", "export", "first", peft, "-f", "peft", "-m", base).returncode == 0
    )
    (peft / "optimizer.pt").write_text("not to be copied")
    added = run_program("adapters", "add", peft, "--name", "second", "-m", base)
    assert (added.returncode, added.stderr) == (0, "")
    second = library.info("second")
    assert second.peft is not None
    assert len(list(second.peft.iterdir())) == 2
    plain, *tuned = (
        ask("-m", str(base), "--adapter", name, "--condition", "Expert")
        for name in ("none", "first", "second")
    )
    assert tuned[0].stdout == tuned[1].stdout != plain.stdout
    config = json.loads((peft / "adapter_config.json").read_text())
    told = json.dumps(config | {"base_model_name_or_path": "mistralai/Mistral-7B-v0.1"})
    (peft / "adapter_config.json").write_text(told)
    outside = run_program("adapters", "add", peft, "--name", "../../outside", "-m", base)
    assert "cannot be named" in outside.stderr
    for flag, says in (([], "was trained on mistralai/Mistral-7B-v0.1"), (["--force"], "heads")):
        wrong = run_program("adapters", "add", peft, "--name", "third", *flag)  # for the starter
        assert wrong.returncode == 1
        assert says in wrong.stderr
        assert wrong.stderr.count("\n") == 1
    assert library.names() == ["first", "second"]


def test_list_and_info(home: Path, installed: AdapterLibrary) -> None:
    broken = home / "adapters" / "broken"
    broken.mkdir()
    (broken / "adapter.gguf").write_bytes(b"GGUF")
    listed = run_program("adapters", "list").stdout.splitlines()
    assert listed[0].startswith("broken")
    assert "fetch" in listed[0]
    assert listed[1].startswith("mine ")
    assert "of starter, condition Expert" in listed[1]

    shown = run_program("adapters", "info", "mine").stdout
    assert "class gpt4: condition 'Expert', reward 1.0" in shown
    assert "class gpt35: condition 'GPT3', reward 0.1" in shown
    assert "loss: 1.25" in shown
    facts = json.loads(run_program("adapters", "info", "mine", "--json").stdout)
    assert (facts["rank"], facts["alpha"], facts["condition"]) == (4, 8.0, "Expert")


def test_add_export_and_remove(home: Path, adapter: Path, tmp_path: Path) -> None:
    assert run_program("adapters", "add", adapter, "--name", "other").returncode == 0
    again = run_program("adapters", "add", adapter, "--name", "other")
    assert "already" in again.stderr
    assert run_program("adapters", "add", adapter, "--name", "other", "--replace").returncode == 0

    out = tmp_path / "out.gguf"
    assert run_program("adapters", "export", "other", out).returncode == 0
    assert out.read_bytes() == adapter.read_bytes()
    assert "is there already" in run_program("adapters", "export", "other", out).stderr
    peft = tmp_path / "peft"
    assert run_program("adapters", "export", "other", peft, "--format", "peft").returncode == 0
    assert sorted(path.name for path in peft.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]

    refused = run_program("adapters", "remove", "other", stdin="n\n")
    assert refused.returncode == 1
    assert refused.stderr.endswith("openchat-local: Nothing was deleted.\n")
    assert run_program("adapters", "remove", "other", "--yes").returncode == 0
    assert run_program("adapters", "list").stdout == ""


def test_merge_writes_a_model_that_answers(tmp_path: Path) -> None:
    base = write_model(tmp_path / "base.gguf", openchat_vocabulary())
    adapter = write_random_adapter(tmp_path / "a.gguf", base)
    out = tmp_path / "merged.gguf"
    done = run_program("adapters", "merge", adapter, out, "--type", "Q8_0", "-m", base)
    assert done.returncode == 0, done.stderr
    assert {tensor.type for tensor in read_gguf(out).tensors} == {"F32", "Q8_0"}
    assert ask("-m", str(out)).stdout.strip()


def test_render_shows_the_adapters_condition(installed: AdapterLibrary) -> None:
    done = run_program("render", "--adapter", "mine", stdin='[{"role": "user", "content": "Hi"}]')
    assert "<|im_start|>Expert user\nHi" in "".join(json.loads(done.stdout)["pieces"])


@pytest.mark.skipif(os.name == "nt", reason="serve.sh is for a POSIX shell")
def test_a_folder_for_vllm_has_the_command_the_template_and_the_adapter(
    home: Path, tmp_path: Path
) -> None:
    base = write_model(tmp_path / "open chat$(touch x).gguf", openchat_vocabulary(),
                       feed_forward=256)  # fmt: skip
    library = AdapterLibrary(home / "adapters")
    library.add("mine", write_random_adapter(tmp_path / "a.gguf", base), facts={"scale": 0.5})
    out = tmp_path / "for vllm"
    done = run_program("adapters", "export", "mine", "--vllm", out, "-m", base)
    assert (done.returncode, done.stderr) == (0, "")
    assert "the token ids are those of chat under the condition 'Expert'" in done.stdout
    assert {path.name for path in out.iterdir()} == {
        "README.md", "adapter", "chat_template.jinja", "serve.sh",
    }  # fmt: skip

    vllm = tmp_path / "bin" / "vllm"
    vllm.parent.mkdir()
    vllm.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    vllm.chmod(0o755)
    command = ["sh", str(out / "serve.sh"), "--port", "8000"]
    path = f"{vllm.parent}:{os.environ['PATH']}"
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path,
                         env=os.environ | {"PATH": path, "MODEL": "/models/open chat"})  # fmt: skip
    called = "open-chat-touch-x-:mine"
    words = run.stdout.splitlines()
    assert words[:4] == ["serve", "/models/open chat", "--served-model-name", called[:-5]]
    told = dict(zip(words[2::2], words[3::2], strict=False))
    assert told["--chat-template"] == str(out / "chat_template.jinja")
    assert words[words.index("--max-lora-rank") + 1] == "8"
    assert words[words.index("--lora-modules") + 1] == f"{called}={out / 'adapter'}"
    sampling = json.loads(words[words.index("--override-generation-config") + 1])
    assert (sampling["temperature"], sampling["top_k"]) == (0.7, 40)
    assert words[-2:] == ["--port", "8000"]
    assert not (tmp_path / "x").exists()
    without = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert without.returncode != 0
    assert "set MODEL" in without.stderr

    assert '"Expert"' in (out / "chat_template.jinja").read_text()
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (4, 4.0)  # half of 8: as its owner chose
    again = run_program("adapters", "export", "mine", "--vllm", out, "-m", base)
    assert again.returncode == 1
    assert "is there already" in again.stderr
