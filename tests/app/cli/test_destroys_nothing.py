"""Every command that writes, beside everything that it could destroy: only its own changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

import click
import numpy as np
import pytest

from openchat_local.app.cli.main import cli, main
from openchat_local.app.engine import installed_adapters, installed_models
from openchat_local.finetune.run.beginning import begin_run
from openchat_local.finetune.run.checkpoints import Checkpoint, Progress
from openchat_local.finetune.run.settings import RunSettings
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model

# Chats live in one database, whose log comes and goes; each start has a lock of its own.
CHATS = ("home/chats.*", "home/instances/*")

# Whoever reads a model holds a lock beside it, so that nobody removes it meanwhile.
IN_USE = ("home/models/*/in-use.lock",)

# What is run, and what of all that is there may change. The names are those of `world`.
COMMANDS: tuple[tuple[str, Sequence[str]], ...] = (
    # Fine-tuning: data that cannot be trained on, into every kind of folder.
    ("finetune train bad.jsonl --out . -m base.gguf", ()),
    ("finetune train bad.jsonl --name mine --replace -m base.gguf", ("home/runs/mine/lock",)),
    ("finetune train data.jsonl --name mine -m base.gguf", ()),
    ("finetune train data.jsonl --out ../home/runs/mine --name new -m base.gguf", ()),
    ("finetune train data.jsonl --out taken -m nowhere.gguf", ()),
    ("finetune train nowhere.jsonl --out taken -m base.gguf", ()),
    ("finetune train data.jsonl --out ../home -m base.gguf", ()),  # holds `data`
    ("finetune train --resume mine --rank 3", ()),
    ("finetune train --resume taken", ()),
    ("finetune train --resume mine --dry-run --steps 9", ()),
    ("finetune train data.jsonl --out taken --dry-run --replace --steps 1 -m base.gguf", ()),
    ("finetune preview data.jsonl -m base.gguf", ()),
    ("finetune evaluate bad.jsonl -m base.gguf", ()),
    ("eval loss data.jsonl --out taken -m base.gguf", ()),
    ("eval loss data.jsonl --out . -m base.gguf", ()),
    ("eval loss data.jsonl -m base.gguf", ("home/evaluations/*",)),
    ("eval loss data.jsonl -m base.gguf --out new", ("desk/new/*",)),
    ("eval conditions data.jsonl --out taken -m base.gguf", ()),
    ("eval conditions data.jsonl -m base.gguf --prompts 1", ("home/evaluations/*",)),
    ("eval choice bad.jsonl -m base.gguf --out taken", ()),
    ("eval answers data.jsonl -m base.gguf --out taken --limit 1", ()),
    ("eval answers data.jsonl -m base.gguf --limit 1 --max-tokens 2", ("home/evaluations/*",)),
    ("eval compare base mine -m base.gguf --prompts data.jsonl --out taken --judge base", ()),
    ("eval grade base -m base.gguf --prompts data.jsonl --out taken --judge base", ()),
    ("eval quality data.jsonl -m base.gguf --judge base --reward linear --write taken.md", ()),
    ("eval ablation data.jsonl -m base.gguf --out taken", ()),
    ("eval suites list", ()),
    ("eval suites pull agieval", ("home/suites/.lock",)),  # there is no network
    ("eval suites path agieval", ()),
    ("eval suites remove agieval", ()),
    ("finetune attach", ()),  # none is in the background
    ("finetune runs", ()),
    ("finetune runs --remove taken", ()),  # is no run
    # Adapters
    ("adapters list", CHATS),  # which have the votes
    ("adapters info mine", CHATS),
    ("adapters standings", CHATS),
    ("adapters use mine", ()),  # it is not of the model that the settings name
    ("adapters use nowhere --yes", ()),
    ("adapters use none", ("home/learning/*",)),
    ("adapters rollback", ("home/learning/*",)),
    ("adapters scale mine 0.5", ("home/adapters/mine/card.json",)),
    ("adapters judge nowhere", ()),
    ("adapters judge mine --minutes 0.05 -m base.gguf",
     ("home/adapters/mine/card.json", "home/machine.json")),
    ("adapters export mine taken.gguf", ()),
    ("adapters export mine taken", ()),
    ("adapters export mine taken --format peft -m base.gguf", ()),
    ("adapters export mine new.gguf", ("desk/new.gguf",)),
    ("adapters merge mine taken.gguf -m base.gguf", ()),
    ("adapters merge mine merged.gguf -m base.gguf", ("desk/merged.gguf",)),
    ("adapters merge mine base.gguf -m base.gguf", ()),
    ("adapters add new.gguf --name mine", ()),
    ("adapters add new.gguf --name noted --replace", ()),
    ("adapters add new.gguf --name other", ("home/adapters/other/*",)),
    ("adapters add taken.gguf --name mine --replace", ()),  # is no adapter
    ("adapters remove noted --yes", ()),  # somebody's notes are in it
    ("adapters remove mine --yes", ("home/adapters/mine/*",)),
    # Models
    ("models list", ()),
    ("models info base", IN_USE),
    ("models path base", ()),
    ("models verify base", ("home/models/base@F16/*.json",)),  # when it was verified
    ("models add base.gguf --name base", ()),
    ("models add base.gguf --name noted", ()),
    ("models add base.gguf --name new", ("home/models/new@F16/*",)),
    ("models add base.gguf --name linked --link", ("home/models/linked@F16/*",)),
    ("models pull openchat-3.5", ("home/models/.parts/*",)),  # there is no network
    ("models remove linked --yes --force", ("home/models/linked@F16/*",)),
    ("models remove base --yes --force", ("home/models/base@F16/*",)),
    # Chats
    ("history list", CHATS),
    ("history search Hello", CHATS),
    ("history show", CHATS),
    ("history export --output taken.md", CHATS),
    ("history export --for-training taken.md", CHATS),
    ("history export --for-training taken.md --pairs new.jsonl", CHATS),
    ("history export --output new.json -f json", (*CHATS, "desk/new.json")),
    ("history import new.json", CHATS),
    ("history backup taken.db", CHATS),
    ("history backup new.db", (*CHATS, "desk/new.db")),
    ("history restore taken.db --yes", CHATS),
    ("history restore new.db --yes", CHATS),
    ("history delete CHAT --yes", CHATS),
    # The rest
    ("bundle taken --native -m base.gguf", ()),
    ("config path", ()),
    ("config show", ()),
    ("completion bash", ()),
)  # fmt: skip


@pytest.fixture
def world(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with something of everything, and a desk with files that nobody should lose."""
    desk = tmp_path / "desk"
    desk.mkdir()
    monkeypatch.chdir(desk)
    monkeypatch.setenv("OPENCHAT_LOCAL_OFFLINE", "1")
    base = write_model(
        desk / "base.gguf", openchat_vocabulary("control"), name="base", blocks=1, embedding=64,
        heads=2, kv_heads=1, feed_forward=64,
    )  # fmt: skip
    rows = [{"prompt": f"Say {i}", "completion": f"{i} indeed."} for i in range(12)]
    texts = {
        "thesis.txt": "Ten years of work", "taken.gguf": "mine", "taken.md": "mine",
        "taken.db": "mine", "taken/thesis.txt": "mine", "taken/checkpoints.txt": "mine",
        "data.jsonl": "".join(json.dumps(row) + "\n" for row in rows), "bad.jsonl": '{"x": 1}\n',
        "chat.jsonl": json.dumps({"messages": [{"role": "user", "content": "Hello"}]}),
        "../home/config.toml": "# mine\n", "../home/states/chat.kv": "x", "../home/data": "x",
        "../home/adapters/noted/notes.txt": "mine", "../home/models/noted@F16/notes.txt": "mine",
        "../home/runs/mine/thesis.txt": "mine",
        "../home/runs/mine/checkpoints/step-000003/notes.txt": "mine",
    }  # fmt: skip
    installed_models().add(base, "base")
    adapter = write_random_adapter(tmp_path / "adapter.gguf", base)
    for name in ("mine", "noted"):
        installed_adapters().add(name, adapter)
    settings = RunSettings("mine", base, desk / "data.jsonl").as_json()
    run = begin_run(home / "runs" / "mine", {"name": "mine", "settings": settings}).run
    run.checkpoints.save(Checkpoint(Progress(step=3), {"x": np.zeros(3)}))
    run.add_metrics({"kind": "step", "step": 1})
    for name, text in texts.items():
        (desk / name).parent.mkdir(parents=True, exist_ok=True)
        (desk / name).write_text(text)
    home.chmod(0o700)
    assert main(["history", "import", "chat.jsonl"]) == 0
    return tmp_path


def snapshot(folder: Path) -> dict[str, str]:
    """Every file by its path, with its hash; links by where they lead."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = str(path.readlink())
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def names(command: click.Command, path: str = "") -> Iterator[str]:
    """Every command of the program, in words."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from names(found, f"{path} {name}".strip())


def test_every_command_that_writes_is_walked() -> None:
    groups = ("finetune", "eval", "adapters", "models", "history", "bundle", "config")
    there = {name for name in names(cli) if name.split()[0] in groups}
    missing = {
        name for name in there if not any(f"{line} ".startswith(f"{name} ") for line, _ in COMMANDS)
    }
    assert not missing


def test_only_its_own_changes(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Some seconds: four of the commands start a training process.
    before = snapshot(world)
    problems = []
    for line, own in COMMANDS:
        if "CHAT" in line:
            main(["history", "list", "--json"])
            chat = json.loads(capsys.readouterr().out.splitlines()[0])["id"]
            line = line.replace("CHAT", chat)  # noqa: PLW2901
        status = main(line.split())
        _, err = capsys.readouterr()
        assert "bug in openchat-local" not in err, (line, err)
        after = snapshot(world)
        both = before.keys() | after.keys()
        changed = {name for name in both if before.get(name) != after.get(name)}
        # What an engine finds out about an idle machine it writes down.
        own = (*own, "home/machine.json")  # noqa: PLW2901
        foreign = {name for name in changed if not any(fnmatch(name, pattern) for pattern in own)}
        if foreign:
            problems.append((line, status, sorted(foreign), err[-300:]))
        before = after
    assert problems == []
    # Not everything was refused.
    for name in ("new.gguf", "merged.gguf", "new.json", "new.db"):
        assert (world / "desk" / name).is_file(), name
    assert installed_adapters().names() == ["noted", "other"]
