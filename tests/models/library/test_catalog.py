"""The catalogue: what is in it, and a wrong entry names itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_local.models.gguf import read_gguf
from openchat_local.models.library import installed_path
from openchat_local.models.library.catalog import (
    PATH,
    CatalogError,
    catalog,
    known_model,
    known_repository,
    read_catalog,
)
from openchat_local.models.template.families import FAMILIES

GOOD = """
[[model]]
name = "good"
title = "Good"
licence = "MIT"
template = "chatml"
context = 8192
hub = "someone/good-GGUF"
[model.shape]
blocks = 1
width = 2
heads = 1
kv_heads = 1
head_width = 2
vocabulary = 3
feed_forward = 4
"""


def test_openchats_models_and_the_starter_are_known() -> None:
    assert [name for name in catalog() if name.startswith(("starter", "openchat"))] == [
        "starter", "openchat-3.5", "openchat-3.5-1210", "openchat-3.6", "openchat-3.5-gemma",
        "openchat-3.2",
    ]  # fmt: skip
    assert known_model("gemma-3-1b-it") is known_model("gemma-3-1b")
    assert known_model("openchat-3.5-0106") is known_model("openchat-3.5")
    assert known_repository("thebloke/openchat-3.5-0106-gguf") is known_model("openchat-3.5")


def test_templates_and_conditions_are_those_of_the_families() -> None:
    families = {family.name: family for family in FAMILIES}
    for model in catalog().values():
        default = model.conditions[0] if model.conditions else ""
        if model.template == "jinja":  # the file's own
            assert not default
            continue
        assert families[model.template].default_condition == default, model.name


def test_the_starters_facts_are_those_of_its_file() -> None:
    known = catalog()["starter"]
    path = installed_path(known)
    assert path is not None
    file = read_gguf(path)
    shape = known.shape
    assert (shape.blocks, shape.width) == (file.block_count, file.embedding_length)
    assert (shape.heads, shape.kv_heads) == (file.head_count, file.head_count_kv)
    assert (shape.head_width, shape.vocabulary) == (file.key_length, file.vocab_size)
    assert shape.feed_forward == file.metadata["llama.feed_forward_length"]
    assert known.context == file.context_length


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("", "", None),
        ('licence = "MIT"', "", r"entry 1 \('good'\).*'licence'; add it"),
        ("width = 2", 'width = "2"', r"entry 1 \('good'\), shape: width = '2' is no int"),
        ("context = 8192", "context = true", "context = True is no int"),
        ('title = "Good"', 'title = "Good"\ncolour = "red"', "there is no field 'colour'"),
        ('hub = "someone/good-GGUF"', "", "give either hub"),
        ('hub = "someone/good-GGUF"', 'hub = "good"', "give either hub"),
        ('name = "good"', 'name = "a/b"', "cannot be a folder's"),
        ('name = "good"', 'name = "good"\naliases = ["good"]', None),
        ("[[model]]", "[[models]]", "cannot be read"),
        ("[[model]]", "[[model", "cannot be read"),
    ],
)
def test_a_wrong_entry_names_itself(old: str, new: str, said: str | None, tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(GOOD.replace(old, new, 1))
    if said is None:
        assert list(read_catalog(path)) == ["good"]
        return
    with pytest.raises(CatalogError, match=said):
        read_catalog(path)


def test_two_models_of_one_name(tmp_path: Path) -> None:
    path = tmp_path / "catalog.toml"
    path.write_text(GOOD + GOOD)
    with pytest.raises(CatalogError, match="two models are called 'good'"):
        read_catalog(path)


def test_it_says_how_to_extend_it() -> None:
    assert PATH.read_text("utf-8").startswith("# The models that openchat-local knows by name.")
