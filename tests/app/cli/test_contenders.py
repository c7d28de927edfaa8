"""What contenders are called, and what words name one."""

from __future__ import annotations

from pathlib import Path

import pytest

from openchat_local.app.cli.eval_options import take_contenders
from openchat_local.app.contenders import ContenderError, parse_contender
from support.adapters import write_random_adapter
from support.openchat_gguf import openchat_vocabulary, write_model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(
        tmp_path / "base.gguf", openchat_vocabulary(), embedding=64, heads=2, kv_heads=1, blocks=1
    )


def test_a_file_is_called_by_its_name_unless_another_has_it_too(base: Path, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("one/sft.gguf", "two/sft.gguf", "two/adapter.gguf")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        write_random_adapter(file, base)

    def labels(*chosen: Path) -> list[str]:
        flags = {"model": str(base), "adapters": tuple(map(str, chosen))}
        return [one.label for one in take_contenders(flags)]

    assert labels(files[0], files[2]) == ["base", "sft", "two"]
    assert labels(files[0], files[1]) == ["base", str(files[0]), str(files[1])]
    assert labels(files[0], files[0]) == ["base", "sft"]


def test_pairs_name_what_differs(base: Path) -> None:
    flags = {"model": str(base)}
    found = parse_contender("condition=Math Correct,temperature=0.5,seed=3", flags)
    assert found.is_base
    assert found.condition == "Math Correct"
    assert (found.sampling.temperature, found.sampling.seed) == (0.5, 3)
    assert found.identity != parse_contender("base", flags).identity
    for wrong in ("temprature=1", "seed=x", "seed=1,seed=2"):
        with pytest.raises(ContenderError):
            parse_contender(wrong, flags)
