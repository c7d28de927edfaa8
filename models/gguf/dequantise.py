"""Rows of a GGUF file as numbers, by llama.cpp's own code: for every type that it knows."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np

from openchat_local.models.gguf.header import GGML_TYPES

_NUMBERS = {name: number for number, (name, _, _) in GGML_TYPES.items()}
_DENSE = {"F32": "<f4", "F64": "<f8", "F16": "<f2"}


def dequantise(data: bytes | np.ndarray, type_name: str) -> np.ndarray | None:
    """The whole blocks of `data`, bytes or (…,) uint8 without gaps, in a type of `GGML_TYPES`, as
    (values,) float32; None where the linked llama.cpp does not know the type."""
    if type_name in _DENSE:
        return np.frombuffer(data, _DENSE[type_name]).astype(np.float32)
    if type_name == "BF16":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    _, block, block_bytes = GGML_TYPES[_NUMBERS[type_name]]
    function = _function(type_name)
    if function is None:
        return None
    raw = np.frombuffer(data, np.uint8)
    values: np.ndarray = np.empty(len(raw) // block_bytes * block, np.float32)
    function(raw.ctypes.data, values.ctypes.data, values.size)
    return values


@lru_cache
def _function(type_name: str) -> Any:
    """`void dequantize_row_TYPE(const block *, float *, int64_t)`, if there is one and its
    blocks are as large as ours."""
    from llama_cpp import _ggml

    number = _NUMBERS[type_name]
    for library in (_ggml.libggml, *_base_libraries(_ggml.libggml_base_path)):
        try:
            library.ggml_type_name.restype = ctypes.c_char_p
            library.ggml_type_size.restype = ctypes.c_size_t
            library.ggml_blck_size.restype = ctypes.c_int64
            size = library.ggml_blck_size(number), library.ggml_type_size(number)
            name = library.ggml_type_name(number).decode()
            function = getattr(library, f"dequantize_row_{name}")
        except AttributeError:
            continue
        if size != GGML_TYPES[number][1:]:
            return None
        function.restype = None
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        return function
    return None


def _base_libraries(folder: Any) -> list[ctypes.CDLL]:
    """Windows finds a function only in the library that has it."""
    from pathlib import Path

    return [ctypes.CDLL(str(path)) for path in Path(folder).glob("ggml-base.dll")]
