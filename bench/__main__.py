"""`make bench`: measure, and print a report. `make bench ARGS="decode startup"` picks parts."""

from __future__ import annotations

import importlib
import os
import platform
import sys

PARTS = {
    "decode": "decoding speed: raw llama_decode loop, engine, ask, chat window",
    "startup": "start-up times, idle cost and memory",
    "turns": "time to the first token of a later turn, warm and after a restart",
    "openchat": "a 7B of OpenChat's shape: loading, memory, speed beside a raw loop",
    "window": "the chat window: long chats, keys while a reply streams, long code, idle cost",
    "memory": "memory: predicted, and taken by the engine, for three shapes",
    "finetune": "training beside mlx_lm: speed and memory; what quantisation and packing save",
    "torch": "training on PyTorch beside TRL; bases held in fewer bytes; two processes",
    "seeds": "what MLX and torch learn from the same data, over three seeds",
    "library": "listing fifty models, verifying a large one beside sha256sum",
    "search": "searching 100,000 messages, and the list of 1,000 chats",
    "score": "scoring continuations beside a raw prefill that asks for the same logits",
    "kv": "the KV cache as f16 and as q8_0: memory, loss, speed",
    "schema": "decoding under a JSON schema",
    "busy": "training and decoding beside one busy core",
}


def main(names: list[str]) -> None:
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parts = "\n".join(f"  {name:10}{what}" for name, what in PARTS.items())
        sys.exit(f"no such part: {', '.join(unknown)}; there are\n{parts}")
    import psutil

    # Installed programs have their bytecode on disk; a checkout that may not write its own
    # would be compiled anew at every start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    memory = psutil.virtual_memory().total / 1024**3
    print(
        f"{platform.system()} {platform.machine()}, {psutil.cpu_count(logical=False)} cores, "
        f"{memory:.0f} GiB, Python {platform.python_version()}\n"
    )
    for name in names or PARTS:
        print(f"## {name}: {PARTS[name]}\n", flush=True)
        importlib.import_module(f"bench.{name}").main()
        print(flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
