"""llama.cpp's quantiser, in a process of its own: it aborts on what it does not like."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from openchat_local.models.errors import ModelFileError


def quantise(source: Path, target: Path, type_name: str) -> None:
    """Write the GGUF model `source` to `target` in one of llama.cpp's types, such as "q4_k_m".

    Raises ModelFileError; `target` may then be half written.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__, source, target, type_name],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ModelFileError(
            f"llama.cpp could not write {target.name} as {type_name} "
            f"({lines[-1][:200] if lines else f'exit code {done.returncode}'}): "
            "check the space on the disk, or choose f16 or q8_0."
        )


def _main(source: str, target: str, type_name: str) -> int:
    import llama_cpp.llama_cpp as llama

    from openchat_local.models.engine.devices import load_backends

    llama.llama_backend_init()
    load_backends()
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{type_name.upper()}")
    status: int = llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), parameters)
    return status


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
