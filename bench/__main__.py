"""`make bench`: measure, and print a report. `make bench ARGS="decode startup"` picks parts,
`ARGS="decode --rounds 2"` lets the contenders of some take fewer or more turns than usual,
`ARGS="serve --minutes 10"` puts the server under load for so long."""

from __future__ import annotations

import importlib
import os
import platform
import sys

PARTS = {
    "decode": "decoding speed: raw llama_decode loop, engine, ask, chat window",
    "rows": "what batches of several rows cost, and the ceilings that follow",
    "speculation": "exact speculation on texts that repeat and that do not",
    "serve": "the server: clients at once, one alone, the first token; --minutes 10: under load",
    "sequences": "eight replies at once, beside a bare llama_decode of eight rows",
    "learning": "from /learn to the first step, replies beside training, the screen, a blind pair",
    "pair": "two replies compared blind in the chat window, beside the engine alone",
    "startup": "start-up times, idle cost and memory",
    "turns": "time to the first token of a later turn, warm and after a restart",
    "openchat": "a 7B of OpenChat's shape: loading, memory, speed beside a raw loop",
    "window": "the chat window: long chats, keys while a reply streams, long code, idle cost",
    "memory": "memory: predicted, and taken by the engine, for three shapes; idle sequences",
    "finetune": "training beside mlx_lm: speed and memory; what quantisation and packing save",
    "families": "finetune and ask on the shapes of Qwen3 0.6B and Gemma 3 1B, on both backends",
    "torch": "training on PyTorch beside TRL; bases held in fewer bytes; two processes",
    "seeds": "what MLX and torch learn from the same data, over three seeds",
    "library": "listing fifty models, verifying a large one beside sha256sum",
    "search": "searching 100,000 messages, and the list of 1,000 chats",
    "score": "scoring continuations beside a raw prefill that asks for the same logits",
    "choice": "multiple choice beside a raw prefill; whole sets of a folder in one table",
    "kv": "the KV cache as f16 and as q8_0: memory, loss, speed",
    "schema": "decoding under a JSON schema",
    "web": "the window in a browser: opening, a key, memory; type, stream, rate in Chromium",
    "busy": "training and decoding beside one busy core",
}


def main(arguments: list[str]) -> None:
    names = _take(arguments, "--rounds", "BENCH_ROUNDS")
    names = _take(names, "--minutes", "BENCH_MINUTES")
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


def _take(arguments: list[str], option: str, variable: str) -> list[str]:
    """The arguments without `option` and its number, which becomes `variable`; see
    `bench.setting`."""
    if option not in arguments:
        return arguments
    at = arguments.index(option)
    number = arguments[at + 1] if at + 1 < len(arguments) else ""
    if not number.isdigit() or int(number) < 1:
        sys.exit(f"{option} takes a number from 1 on")
    os.environ[variable] = number
    return arguments[:at] + arguments[at + 2 :]


if __name__ == "__main__":
    main(sys.argv[1:])
