"""What a plan says of memory is what is held."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.choose import BackendError, choose_backend
from openchat_local.finetune.backends.mlx.device import Precision
from openchat_local.finetune.backends.mlx.load import load_model
from openchat_local.finetune.backends.mlx.repack import held_bits
from openchat_local.finetune.backends.mlx.trainer import MLXTrainer
from openchat_local.finetune.run.plan import Held
from openchat_local.models.gguf import GGUFFile

TYPES = ("Q4_0", "Q4_K", "Q5_K", "Q8_0", "Q6_K", "Q3_K", "Q2_K", "IQ4_XS", "IQ3_S", "MXFP4")


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("type", TYPES)
def test_what_mlx_holds_is_what_is_planned(
    type: str, dtype: str, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    from mlx.utils import tree_flatten

    base = quantised_tiny(type)
    model = load_model(base, Precision(dtype, quantised=True))  # type: ignore[arg-type]
    held = sum(array.nbytes for _, array in tree_flatten(model.parameters()))
    width = 4 if dtype == "float32" else 2
    planned = Held(width, True, lambda tensor: held_bits(tensor.type, width))
    assert planned.size(base) == held


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("type", TYPES)
def test_what_torch_holds_is_what_is_planned(
    type: str, dtype: str, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    torch = pytest.importorskip("torch", reason="set up with TORCH=no")
    from openchat_local.finetune.backends.torch.device import Precision as TorchPrecision
    from openchat_local.finetune.backends.torch.trainer import TorchTrainer

    base = quantised_tiny(type)
    precision = TorchPrecision(dtype, quantised=True)  # type: ignore[arg-type]
    trainer = TorchTrainer(
        base, LoraConfig(rank=1), device=torch.device("cpu"), precision=precision
    )
    model = trainer._model._model
    weights = [*model.parameters(), *(b for name, b in model.named_buffers() if "rot" not in name)]
    held = sum(each.nbytes for each in weights if not each.requires_grad)
    backend = choose_backend("torch", "cpu", dtype)
    planned = Held(backend.value_bytes, True, backend.held_bits).size(base)
    assert planned == held


def test_a_seven_billion_model_in_q4_k_takes_five_bits_a_value_in_mlx() -> None:
    assert held_bits("Q4_K", 2) == 5.0
    assert {held_bits(type, 2) for type in ("Q6_K", "Q3_K", "Q2_K")} == {9.0}


def test_what_mlx_rounds_is_said(quantised_tiny: Callable[[str], GGUFFile]) -> None:
    def notes(type: str, dtype: str) -> str:
        precision = Precision(dtype, quantised=True)  # type: ignore[arg-type]
        trainer = MLXTrainer(quantised_tiny(type), LoraConfig(rank=1), precision=precision)
        return " ".join(trainer.describe()["notes"])

    assert "rounded" not in notes("Q4_K", "float32")
    assert "rounded to bfloat16" in notes("Q4_K", "bfloat16")
    assert "Q6_K are held in 8 bits" in notes("Q6_K", "float32")


def test_bfloat16_on_a_cpu_is_refused_by_mlx(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(BackendError, match=r"too inexact in bfloat16.*--backend torch"):
        choose_backend("mlx", precision="bfloat16")
