"""Models in every type that llama.cpp's own quantiser writes."""

from __future__ import annotations

import os
from pathlib import Path

import llama_cpp.llama_cpp as llama

from openchat_local.models.template.vocabulary import quiet_llama_log

# The file type whose matrices all have the type, if nothing is mixed in.
_FILE_TYPES = {
    "Q2_K": "Q2_K", "Q3_K": "Q3_K_M", "Q4_K": "Q4_K_M", "Q5_K": "Q5_K_M",
    "Q6_K": "Q6_K", "IQ4_NL": "IQ4_NL", "IQ4_XS": "IQ4_XS", "BF16": "BF16",
    "MXFP4": "MXFP4_MOE",
}  # fmt: skip


def quantised(source: Path, type: str, *, embedding: bool = False) -> Path:
    """Write the model `source`, every block's matrices in `type`, beside itself.

    The embedding, of which the others are a tenth, stays as it is unless `embedding`.
    """
    quiet_llama_log()
    target = source.with_name(f"{type}{'-embedded' * embedding}.gguf")
    parameters = llama.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{_FILE_TYPES.get(type, type)}")
    parameters.pure = True
    if not embedding:
        parameters.token_embedding_type = llama.GGML_TYPE_F16
    parameters.nthread = 2
    status = llama.llama_model_quantize(os.fsencode(source), os.fsencode(target), parameters)
    assert status == 0
    return target
