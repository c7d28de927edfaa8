"""Every template family on a real vocabulary that fits it, and small base models."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from openchat_local.models.gguf import GGUFFile, read_gguf
from openchat_local.models.template import Template, choose_template
from openchat_local.models.template.vocabulary import Vocabulary
from support.adapters import write_f32
from support.openchat_gguf import openchat_vocabulary, write_model
from support.quantised import quantised

HEAD_WIDTH = 64
VOCABULARY_OF_FAMILY = {
    "openchat-3.2": "openchat",
    "openchat-3.5": "openchat",
    "openchat-3.6": "llama-3",
    "chatml": "chatml-mistral",
    "llama-3": "llama-3",
    "gemma": "gemma",
    "zephyr": "zephyr",
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Two threads would wait for each other in a loop, and several tests run side by side."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # for the processes that a test starts
        if torch := sys.modules.get("torch"):
            torch.set_num_threads(1)
        yield


@pytest.fixture(scope="session")
def template_of(
    model_path: Callable[[str], Path], vocabulary_of: Callable[[str], Vocabulary]
) -> Callable[[str], Template]:
    """The template of that family; "starter" is ChatML with a default system prompt."""

    @cache
    def template(family: str) -> Template:
        name = "starter" if family == "starter" else VOCABULARY_OF_FAMILY[family]
        override = None if family == "starter" else family
        return choose_template(read_gguf(model_path(name)), vocabulary_of(name), override)

    return template


@pytest.fixture(scope="session")
def f16_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The OpenChat-shaped model: 32,002 tokens, two blocks, output tied to the embedding."""
    folder = tmp_path_factory.mktemp("openchat")
    return write_model(folder / "f16.gguf", openchat_vocabulary())


@pytest.fixture(scope="session")
def tiny(f16_path: Path) -> GGUFFile:
    """The OpenChat-shaped model in float32."""
    return read_gguf(write_f32(f16_path, f16_path.with_name("f32.gguf")))


@pytest.fixture(scope="session")
def llama_3_shaped(tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    """In float32, with everything that the model above lacks: an output layer of its own,
    norms that are not one, and Llama 3's stretched rotations."""
    folder = tmp_path_factory.mktemp("llama-3")
    random = np.random.default_rng(1)
    vocabulary = openchat_vocabulary()
    output = random.standard_normal((len(vocabulary.tokens), 256), dtype=np.float32) / 16
    stretch = np.linspace(1, 8, HEAD_WIDTH // 2, dtype=np.float32)
    extra = {"output.weight": output, "rope_freqs.weight": stretch}
    plain = write_model(folder / "plain.gguf", vocabulary, extra=extra)
    names = [t.name for t in read_gguf(plain).tensors if t.name.endswith("_norm.weight")]
    noise = {name: random.uniform(-0.5, 0.5, 256).astype(np.float32) for name in names}
    return read_gguf(write_f32(plain, folder / "f32.gguf", noise))


@pytest.fixture(scope="session")
def starter_f32(starter_path: Path, tmp_path_factory: pytest.TempPathFactory) -> GGUFFile:
    """The starter, dequantised."""
    return read_gguf(write_f32(starter_path, tmp_path_factory.mktemp("starter") / "f32.gguf"))


@pytest.fixture(scope="session")
def quantised_tiny(f16_path: Path) -> Callable[[str], GGUFFile]:
    """The OpenChat-shaped model with every block's matrices in the type of that name."""
    return cache(lambda type: read_gguf(quantised(f16_path, type)))


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights in OpenChat's shape, narrow, with its real vocabulary."""
    path = tmp_path_factory.mktemp("models") / "tiny-openchat-3.5.gguf"
    write_model(
        path,
        openchat_vocabulary("control"),
        name="tiny openchat-3.5",
        chat_template=None,
        context=512,
        blocks=2,
        embedding=64,
        heads=4,
        kv_heads=2,
        feed_forward=128,
    )
    return path


@pytest.fixture(scope="session")
def small(tiny_path: Path) -> GGUFFile:
    """The same in float32: a sixteenth of the work of `tiny`."""
    return read_gguf(write_f32(tiny_path, tiny_path.with_name("small-f32.gguf")))
