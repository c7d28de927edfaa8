"""What holds on every device, tried on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from openchat_local.finetune.adapter.lora import LoraConfig
from openchat_local.finetune.backends.trainer import OptimizerConfig
from openchat_local.finetune.data.batches import Row, build_batch
from openchat_local.models.gguf import GGUFFile

pytest.importorskip("torch", reason="set up with TORCH=no")

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from openchat_local.finetune.backends.torch.device import Precision, device_of_rank
from openchat_local.finetune.backends.torch.trainer import TorchTrainer

_WIDE = (torch.float64, torch.complex128)


class WithoutFloat64(TorchDispatchMode):
    """A device such as Apple's GPU, on which every operation in float64 fails."""

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        keywords = keywords or {}
        out = function(*arguments, **keywords)
        for value in tree_leaves((arguments, keywords, out)):
            if isinstance(value, torch.Tensor) and value.dtype in _WIDE:
                raise TypeError(f"{function} in float64, which this device does not have")
        return out


def test_the_device_without_float64_is_one() -> None:
    with WithoutFloat64(), pytest.raises(TypeError, match="float64"):
        torch.ones(3).double()


@pytest.mark.parametrize(
    "precision",
    [
        Precision("float32", quantised=False),
        Precision("bfloat16", quantised=False),
        Precision("float32", quantised=True),
        Precision("bfloat16", quantised=True, nf4=True),
    ],
    ids=["float32", "bfloat16", "quantised", "nf4"],
)
def test_training_needs_no_float64(
    precision: Precision, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    ids = np.arange(300, 324, dtype=np.int32)
    weights = np.array([0.0] * 4 + [1.0] * 20, np.float32)
    rows = [Row(ids, weights, 0, 1), Row(ids[::-1].copy(), weights * np.float32(0.1), 1, 2)]
    packed, side_by_side = build_batch(rows, [(0, 1)]), build_batch(rows, [(0,), (1,)])
    with WithoutFloat64():
        trainer = TorchTrainer(
            quantised_tiny("Q4_K"),
            LoraConfig(rank=2, dropout=0.1),
            OptimizerConfig(weight_decay=0.1),
            device=torch.device("cpu"),
            precision=precision,
        )
        before = trainer.step([packed, side_by_side], 1e-3)
        trainer.load_state(trainer.state())
        trainer.set_lora(trainer.lora())
        after = trainer.step([packed, side_by_side], 1e-3)
        assert trainer.evaluate(packed).keys() == {0, 1}
        assert np.isfinite(trainer.logits(ids)).all()
    assert after.loss < before.loss


@pytest.mark.parametrize("type", ["Q4_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q5_K", "Q6_K"])
def test_no_block_type_is_multiplied_out_in_float64(
    type: str, quantised_tiny: Callable[[str], GGUFFile]
) -> None:
    ids = np.arange(300, 308, dtype=np.int32)
    with WithoutFloat64():
        trainer = TorchTrainer(
            quantised_tiny(type),
            LoraConfig(rank=2),
            device=torch.device("cpu"),
            precision=Precision("float32", quantised=True),
        )
        assert np.isfinite(trainer.logits(ids)).all()


def test_each_process_has_a_gpu_of_its_own_unless_one_is_named() -> None:
    cuda, second = torch.device("cuda"), torch.device("cuda:1")
    found = [device_of_rank(cuda, rank, 4) for rank in range(4)]
    assert found == [torch.device("cuda", number) for number in range(4)]
    assert device_of_rank(torch.device("xpu"), 5, 4) == torch.device("xpu", 1)
    assert device_of_rank(second, 3, 4) == second
    assert device_of_rank(torch.device("cpu"), 3, 1) == torch.device("cpu")
    assert device_of_rank(torch.device("mps"), 3, 1) == torch.device("mps")
