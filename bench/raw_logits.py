"""The yardstick of scoring: llama_decode of whole texts with the logits of the rows that a score
needs, over the C API, in a process of its own.

`python -m bench.raw_logits MODEL THREADS LONGEST` reads lines of JSON, each a list of texts as
[ids, first wanted row], and answers each with the seconds that they took, one after the other.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import llama_cpp.llama_cpp as llama

from openchat_local.models.engine.devices import load_backends
from openchat_local.models.system.child_process import LOOKS_OF_THE_ENGINE, sharing_cores

_BATCH = 512

Text = tuple[Sequence[int], int]


class RawLogits:
    """A raw prefill in a child process, which keeps its model between lines."""

    def __init__(self, model: Path, threads: int, longest: int = _BATCH) -> None:
        """`longest` in tokens is how long a text may be; one over a batch takes several."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.raw_logits", str(model), str(threads), str(longest)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=sharing_cores(LOOKS_OF_THE_ENGINE),
        )  # fmt: skip

    def seconds(self, texts: Sequence[Text]) -> float:
        """How long all texts took."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(texts), file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve(model_path: str, threads: int, longest: int) -> None:
    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, None)
    llama.llama_backend_init()
    load_backends()
    model = llama.llama_model_load_from_file(
        model_path.encode(), llama.llama_model_default_params()
    )
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = longest
    parameters.n_batch = parameters.n_ubatch = _BATCH
    parameters.n_threads = parameters.n_threads_batch = threads
    context = llama.llama_init_from_model(model, parameters)
    batch = llama.llama_batch_init(_BATCH, 0, 1)
    for line in sys.stdin:
        texts: list[Text] = json.loads(line)
        started = time.perf_counter()
        for ids, first in texts:
            llama.llama_memory_clear(llama.llama_get_memory(context), False)
            for start in range(0, len(ids), _BATCH):
                part = ids[start : start + _BATCH]
                for row, token in enumerate(part):
                    at = start + row
                    batch.token[row], batch.pos[row], batch.logits[row] = token, at, at >= first
                    batch.n_seq_id[row], batch.seq_id[row][0] = 1, 0
                batch.n_tokens = len(part)
                assert llama.llama_decode(context, batch) == 0
            llama.llama_synchronize(context)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
