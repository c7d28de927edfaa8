"""A thousand damaged headers: Python refuses or reads each, llama.cpp dies in its child alone."""

from __future__ import annotations

import random
import selectors
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.errors import EngineDied, ModelFileError, OpenChatError
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library import ModelLibrary
from support.openchat_gguf import byte_vocabulary, write_model

FILES = 1000
_EXTREMES = (0, 1, 2, 7, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**64 - 1)

LOADER = """
import os, resource, sys
os.environ["GGML_NO_BACKTRACE"] = "1"
from pathlib import Path
from openchat_local.models.engine.decoding.llamacpp import Rows
from openchat_local.models.engine.decoding.loading import load_model
from openchat_local.models.engine.protocol import EngineOptions
from openchat_local.models.errors import OpenChatError
resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30,) * 2)
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
for line in sys.stdin:
    try:
        loaded = load_model(EngineOptions(Path(line.strip()), context=64, threads=1), print_nothing)
        loaded.service.scheduler.runner.context.decode([Rows(0, 0, (1, 2, 3))])
        answer = "answered"
    except OpenChatError:
        answer = "refused"
    except Exception as bug:
        answer = f"bug {bug!r}"
    print(answer, flush=True)
""".replace("print_nothing", "lambda _: None")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole model that answers, whose header is most of it."""
    path = tmp_path_factory.mktemp("whole") / "whole.gguf"
    template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}"
    write_model(
        path, byte_vocabulary(), chat_template=template, context=512, blocks=1, embedding=32,
        heads=2, kv_heads=1, feed_forward=64,
    )  # fmt: skip
    return path.read_bytes()


def damaged(whole: bytes, header: int, dice: random.Random) -> bytes:
    """`whole` with one to three things wrong in its first `header` bytes."""
    content = bytearray(whole)
    # Strings of the vocabulary are most of a header, and the least interesting part of it.
    interesting = [*range(700), *range(header - 900, header)]
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        at = dice.choice(interesting) if dice.random() < 0.8 else dice.randrange(header)
        match dice.randrange(6):
            case 0:
                content[at] ^= 1 << dice.randrange(8)
            case 1:
                content[at] = dice.randrange(256)
            case 2:
                content[at : at + 8] = struct.pack("<Q", dice.choice(_EXTREMES))
            case 3:
                content[at : at + 4] = struct.pack("<I", dice.choice(_EXTREMES) & 0xFFFFFFFF)
            case 4:
                other = dice.randrange(header - 16)
                content[at : at + 16] = whole[other : other + 16]
            case 5:
                keys = [
                    key
                    for key in (b"llama.", b"tokenizer.", b"blk.0.", b"weight")
                    if key in content
                ]
                found = content.find(dice.choice(keys), at)
                if found >= 0:
                    content[found] = dice.randrange(33, 127)
    if dice.random() < 0.03:
        del content[dice.randrange(len(content)) :]
    return bytes(content)


def what_llama_cpp_does(paths: list[Path]) -> dict[Path, str]:
    """ "answered", "refused", "died" or "bug …" for each, in a child that is replaced when it
    dies."""
    outcomes: dict[Path, str] = {}
    while waiting := [path for path in paths if path not in outcomes]:
        with subprocess.Popen(
            [sys.executable, "-c", LOADER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        ) as child, selectors.DefaultSelector() as selector:  # fmt: skip
            assert child.stdin is not None
            assert child.stdout is not None
            selector.register(child.stdout, selectors.EVENT_READ)
            for path in waiting:
                try:
                    child.stdin.write(f"{path}\n")
                    child.stdin.flush()
                except BrokenPipeError:
                    break
                assert selector.select(60), f"{path} hangs the engine"
                answer = child.stdout.readline().strip()
                outcomes[path] = answer or "died"
                if not answer:
                    break
            child.kill()
    return outcomes


def test_a_thousand_damaged_headers(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "whole.gguf"
    path.write_bytes(whole)
    header = read_gguf(path).data_offset
    dice = random.Random(3)
    accepted: list[Path] = []
    said: list[str] = []
    for number in range(FILES):
        path = tmp_path / f"{number}.gguf"
        path.write_bytes(damaged(whole, header, dice))
        try:
            read_gguf(path)
        except ModelFileError as fault:
            said.append(str(fault))
            path.unlink()
        else:
            accepted.append(path)
    outcomes = what_llama_cpp_does(accepted)
    counts = Counter(outcomes.values())
    assert not [what for what in outcomes.items() if what[1].startswith("bug")]
    assert sum(counts.values()) == len(accepted)
    assert counts["answered"] > 50  # harmless damage: the dice reach everything
    assert counts["refused"] > 50
    assert not [sentence for sentence in said if "\n" in sentence]

    # Whatever it was that killed llama.cpp, the app says so in a sentence and lives on.
    for deadly in [path for path, outcome in outcomes.items() if outcome == "died"][:3]:
        engine = LocalEngine(EngineOptions(deadly, context=64, threads=1))
        with pytest.raises(OpenChatError) as told:
            engine.load()
        assert isinstance(told.value, EngineDied)
        assert "The engine ended while it loaded the model" in str(told.value)
        assert "GGML_ASSERT" in str(told.value) or "signal" in str(told.value)
        assert "\n" not in str(told.value)
        engine.close()


def test_what_is_accepted_can_be_described_or_is_refused_in_a_sentence(
    whole: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(whole)
    header = read_gguf(path).data_offset
    dice = random.Random(5)
    library = ModelLibrary(tmp_path / "models")
    added = 0
    said: list[str] = []
    for _ in range(300):
        path.write_bytes(damaged(whole, header, dice))
        try:
            model = library.add(path, "fuzz", link=True)
        except ModelFileError as fault:
            said.append(str(fault))
        else:
            added += 1
            assert library.find("fuzz") == model
            library.remove(model)
    assert added > 30
    assert not [sentence for sentence in said if "\n" in sentence]
