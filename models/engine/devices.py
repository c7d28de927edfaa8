"""What llama.cpp was built with and finds on this machine, as JSON on standard output.

`python -m openchat_local.models.engine.devices` is a child process of its own: a driver that
hangs or aborts takes nothing else along.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from dataclasses import asdict
from typing import Any

from openchat_local.models.system.machine import GPUMemory, library_folders

_CPU, _GPU, _INTEGRATED_GPU = 0, 1, 2  # enum ggml_backend_dev_type


def load_backends() -> None:
    """Load the parts of llama.cpp that are libraries of their own, where it was built so that
    the fitting one is chosen at run time (GGML_BACKEND_DL). Does nothing otherwise."""
    ggml = _ggml()
    for folder in library_folders():
        if ggml.ggml_backend_reg_count() == 0:
            ggml.ggml_backend_load_all_from_path(os.fsencode(folder))


def gpus() -> list[GPUMemory]:
    """The GPUs that llama.cpp can use, with their memory."""
    ggml = _ggml()
    found = []
    for index in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(index)
        kind = ggml.ggml_backend_dev_type(device)
        if kind not in (_GPU, _INTEGRATED_GPU):
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        ggml.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = ggml.ggml_backend_dev_description(device).decode("utf-8", "replace")
        found.append(GPUMemory(name, total.value, free.value, kind == _INTEGRATED_GPU))
    return found


def _ggml() -> Any:
    # ggml by way of the llama library, whose dependency it is: opened by its own path, Linux
    # loads it a second time, with a list of backends that llama.cpp never looks at. Windows
    # has one, and finds functions only in the library itself.
    from llama_cpp import _ggml
    from llama_cpp.llama_cpp import _lib

    library = _lib if hasattr(_lib, "ggml_backend_reg_count") else _ggml.libggml
    for name, result, arguments in (
        ("ggml_backend_reg_count", ctypes.c_size_t, []),
        ("ggml_backend_load_all_from_path", None, [ctypes.c_char_p]),
        ("ggml_backend_dev_count", ctypes.c_size_t, []),
        ("ggml_backend_dev_get", ctypes.c_void_p, [ctypes.c_size_t]),
        ("ggml_backend_dev_type", ctypes.c_int, [ctypes.c_void_p]),
        ("ggml_backend_dev_description", ctypes.c_char_p, [ctypes.c_void_p]),
        (
            "ggml_backend_dev_memory",
            None,
            [ctypes.c_void_p, ctypes.POINTER(ctypes.c_size_t), ctypes.POINTER(ctypes.c_size_t)],
        ),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def main() -> None:
    import llama_cpp

    from openchat_local.models.template.vocabulary import quiet_llama_log

    quiet_llama_log()
    llama_cpp.llama_backend_init()
    load_backends()
    report = {
        "version": llama_cpp.__version__,
        "features": llama_cpp.llama_print_system_info().decode("utf-8", "replace").strip(),
        "offloads": bool(llama_cpp.llama_supports_gpu_offload()),
        "gpus": [asdict(device) for device in gpus()],
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
