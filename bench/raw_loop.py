"""The yardstick: a bare llama_decode loop over the C API, in a process of its own.

`python -m bench.raw_loop MODEL THREADS TOKENS IDS…` prints tokens per second of decoding,
greedy, and of the prefill.
"""

from __future__ import annotations

import sys
import time

import llama_cpp.llama_cpp as llama

from openchat_local.models.engine.devices import load_backends


def tokens_per_second(
    model_path: str, threads: int, count: int, prompt: list[int]
) -> tuple[float, float]:
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

    ids = (llama.llama_token * len(prompt))(*prompt)
    started = time.perf_counter()
    llama.llama_decode(context, llama.llama_batch_get_one(ids, len(prompt)))
    prefill = len(prompt) / (time.perf_counter() - started)
    one = (llama.llama_token * 1)()
    batch = llama.llama_batch_get_one(one, 1)
    started = time.perf_counter()
    for _ in range(count):
        one[0] = llama.llama_sampler_sample(sampler, context, -1)
        llama.llama_decode(context, batch)
    return count / (time.perf_counter() - started), prefill


if __name__ == "__main__":
    path, threads, count, *ids = sys.argv[1:]
    print(*tokens_per_second(path, int(threads), int(count), [int(id) for id in ids]))
