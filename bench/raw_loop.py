"""The yardstick: a bare llama_decode loop over the C API, in a process of its own.

`python -m bench.raw_loop MODEL THREADS` reads lines of `TOKENS ID ID…` and answers each with
tokens per second of decoding, greedy, and of the prefill.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import llama_cpp.llama_cpp as llama

from openchat_local.models.engine.devices import load_backends


class RawLoop:
    """A raw loop in a child process, which keeps its model between replies."""

    def __init__(self, model: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.raw_loop", str(model), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def reply(self, tokens: int, prompt: list[int]) -> tuple[float, float]:
        """Tokens per second of decoding and of the prefill."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(tokens, *prompt, file=self._process.stdin, flush=True)
        decode, prefill = map(float, self._process.stdout.readline().split())
        return decode, prefill

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def _serve(model_path: str, threads: int) -> None:
    quiet = llama.llama_log_callback(lambda level, text, data: None)
    llama.llama_log_set(quiet, None)
    llama.llama_backend_init()
    load_backends()
    model = llama.llama_model_load_from_file(
        model_path.encode(), llama.llama_model_default_params()
    )
    parameters = llama.llama_context_default_params()
    parameters.n_ctx = 8192
    parameters.n_batch = parameters.n_ubatch = 512
    parameters.n_threads = parameters.n_threads_batch = threads
    context = llama.llama_init_from_model(model, parameters)
    sampler = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    llama.llama_sampler_chain_add(sampler, llama.llama_sampler_init_greedy())
    for line in sys.stdin:
        count, *prompt = map(int, line.split())
        llama.llama_memory_clear(llama.llama_get_memory(context), False)
        ids = (llama.llama_token * len(prompt))(*prompt)
        started = time.perf_counter()
        llama.llama_decode(context, llama.llama_batch_get_one(ids, len(prompt)))
        llama.llama_synchronize(context)
        prefill = len(prompt) / (time.perf_counter() - started)
        one = (llama.llama_token * 1)()
        batch = llama.llama_batch_get_one(one, 1)
        started = time.perf_counter()
        for _ in range(count):
            one[0] = llama.llama_sampler_sample(sampler, context, -1)
            llama.llama_decode(context, batch)
        print(count / (time.perf_counter() - started), prefill, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
