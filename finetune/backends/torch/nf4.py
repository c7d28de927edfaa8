"""Matrices in 4-bit NormalFloat, by bitsandbytes: QLoRA's own form (arXiv 2305.14314).

Its kernels are faster on CUDA than multiplying GGUF blocks out, and the base is another one:
NF4 is about 9 % (root mean square) off the weights it is made from, which chat does not run.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from openchat_local.models.errors import OpenChatError
from openchat_local.models.system.installing import install_command

BLOCK = 64


class NF4Error(OpenChatError):
    """bitsandbytes is not there, or does not know the device."""


class NF4Linear(nn.Module):
    """x · Wᵀ with a frozen W, given as (rows, columns) on its device."""

    def __init__(self, weight: Tensor) -> None:
        """Raises NF4Error."""
        super().__init__()
        self._library = _bitsandbytes()
        try:
            raw, self._state = self._library.functional.quantize_4bit(
                weight, blocksize=BLOCK, quant_type="nf4"
            )
        except (RuntimeError, NotImplementedError, ValueError) as error:
            raise NF4Error(
                f"bitsandbytes cannot hold weights on {weight.device} "
                f"({str(error).splitlines()[0]}): leave --nf4 away."
            ) from None
        self.raw = nn.Buffer(raw, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self._library.matmul_4bit(x, self.raw.t(), quant_state=self._state)
        return y

    def weight(self) -> Tensor:
        """(rows, columns), multiplied out."""
        whole: Tensor = self._library.functional.dequantize_4bit(self.raw, self._state)
        return whole


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise NF4Error(
            "--nf4 needs the package bitsandbytes: "
            f"{install_command('openchat-local[nf4]')} (about 45 MB), or leave --nf4 away."
        ) from None
    return bitsandbytes


def quantises(device: torch.device) -> None:
    """Raise NF4Error unless matrices on `device` can be held so."""
    NF4Linear(torch.ones(BLOCK, BLOCK, device=device))
