"""The yardstick for many rows: bare llama_decode batches over the C API, in a process of its own.

`python -m bench.raw_batches MODEL THREADS` reads a line of JSON for each thing to be timed and
answers with a line of JSON. Every row's logits are asked for, and a token is drawn from them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp.llama_cpp as llama

from openchat_local.models.engine.devices import load_backends

MOST = 32  # rows of a batch that is not a prompt
CONTEXT = 8192
_PROMPT = 512


class RawBatches:
    """A loaded model in a child process, which decodes what it is told to."""

    def __init__(self, model: Path, threads: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.raw_batches", str(model), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def rows(self, count: int, *, sequences: bool = False) -> float:
        """Seconds for a batch of `count` rows, and for drawing a token from each: consecutive
        tokens of one sequence, or a token of each of so many `sequences`. They follow what
        `together` has decoded last, since each row attends to all of it; else a short prompt."""
        return float(self._ask({"rows": count, "sequences": sequences}))

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        """Tokens per second of all replies together: a row of each in every batch, greedily,
        `tokens` tokens each."""
        return float(self._ask({"prompts": [[*ids] for ids in prompts], "tokens": tokens}))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, question: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(question), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


class _Batches:
    def __init__(self, model_path: str, threads: int) -> None:
        self._log = llama.llama_log_callback(lambda level, text, data: None)
        llama.llama_log_set(self._log, None)
        llama.llama_backend_init()
        load_backends()
        self._model = llama.llama_model_load_from_file(
            model_path.encode(), llama.llama_model_default_params()
        )
        parameters = llama.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = CONTEXT, MOST
        parameters.kv_unified = True
        parameters.n_batch = parameters.n_ubatch = _PROMPT
        parameters.n_outputs_max = MOST
        parameters.n_threads = parameters.n_threads_batch = threads
        self._context = llama.llama_init_from_model(self._model, parameters)
        self._end = 0  # tokens of sequence 0 in the cache, that `rows` follow
        self._memory = llama.llama_get_memory(self._context)
        self._batch = llama.llama_batch_init(_PROMPT, 0, 1)
        self._sampler = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
        llama.llama_sampler_chain_add(self._sampler, llama.llama_sampler_init_greedy())

    def decode(self, rows: Sequence[tuple[int, int, int]], wanted: int) -> None:
        """Rows of (token, position, sequence); the last `wanted` with their logits."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token, position, sequence) in enumerate(rows):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
            batch.logits[index] = index >= len(rows) - wanted
        if llama.llama_decode(self._context, batch):
            sys.exit("llama.cpp could not decode the batch")

    def draw(self, row: int) -> int:
        token: int = llama.llama_sampler_sample(self._sampler, self._context, row)
        return token

    def read(self, prompt: Sequence[int], sequence: int) -> None:
        """Evaluate a prompt."""
        for start in range(0, len(prompt), _PROMPT):
            part = prompt[start : start + _PROMPT]
            self.decode([(id, start + at, sequence) for at, id in enumerate(part)], 1)

    def rows(self, count: int, sequences: bool) -> float:
        if not self._end:
            self._end = 64
            self.read(range(100, 100 + self._end), 0)
        end = self._end
        others = range(1, count if sequences else 1)
        for other in others:
            llama.llama_memory_seq_cp(self._memory, 0, other, 0, end)
        if sequences:
            rows = [(200 + row, end, row) for row in range(count)]
        else:
            rows = [(200 + row, end + row, 0) for row in range(count)]
        started = time.perf_counter()
        self.decode(rows, count)
        for row in range(count):
            self.draw(row)
        seconds = time.perf_counter() - started
        llama.llama_memory_seq_rm(self._memory, 0, end, -1)
        for other in others:
            llama.llama_memory_seq_rm(self._memory, other, -1, -1)
        return seconds

    def together(self, prompts: Sequence[Sequence[int]], tokens: int) -> float:
        llama.llama_memory_clear(self._memory, False)
        last = []
        for sequence, prompt in enumerate(prompts):
            self.read(prompt, sequence)
            last.append(self.draw(-1))
        started = time.perf_counter()
        for step in range(tokens - 1):
            rows = [
                (id, len(prompts[sequence]) + step, sequence) for sequence, id in enumerate(last)
            ]
            self.decode(rows, len(rows))
            last = [self.draw(row) for row in range(len(rows))]
        self._end = len(prompts[0]) + tokens - 1
        return len(prompts) * (tokens - 1) / (time.perf_counter() - started)


def _serve(model_path: str, threads: int) -> None:
    batches = _Batches(model_path, threads)
    for line in sys.stdin:
        question = json.loads(line)
        if "rows" in question:
            answer = batches.rows(question["rows"], question["sequences"])
        else:
            answer = batches.together(question["prompts"], question["tokens"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
