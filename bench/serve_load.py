"""The server under load: 32 clients, of which every third leaves before its answer is whole.

Three models, two of them adapters, and few prompts: each whole answer is held against what the same
request got alone, which is the same where numbers are not rounded to a few bits on their way: the
starter in float32. Memory is that of the server's process and of its engine's.
"""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from bench.report import table
from bench.served import Served, events, serving
from bench.setting import minutes, starter
from openchat_local.finetune.adapter.gguf_file import write_gguf
from openchat_local.finetune.adapter.lora import LoraConfig, LoraPair, initial_lora, lora_shapes
from openchat_local.finetune.adapter.merging import merge
from openchat_local.models.gguf import read_gguf
from openchat_local.models.library.adapter_file import AdapterCard

CLIENTS = 32
TOKENS = 24
LEAVING = 1 / 3
THINGS = ("boats", "keys", "lamps", "nets", "roofs", "spoons", "wells", "ropes", "bells", "doors")
_SURE = 0.05  # nats: what is as likely as another may come out either way, in a larger batch


def main() -> None:
    seconds = 60 * minutes()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder) / "starter-f32.gguf"
        merge(_adapter(Path(folder) / "none.gguf", starter(), 0, size=0.0), starter(), base, "f32")
        adapters = {
            name: _adapter(Path(folder) / f"{name}.gguf", base, seed)
            for seed, name in enumerate(("mine", "yours"), 1)
        }
        with serving(base, adapters=adapters) as served:
            load = _Load(served)
            about = (
                f"{CLIENTS} clients, {seconds / 60:.0f} min, {load.questions} different questions"
            )
            print(f"\n{about}:\n", flush=True)
            sizes = load.run(seconds)
            print(table({"server": sizes[0], "its engine": sizes[1]}, "MiB, once a minute"))
            for name, mib in (("server", sizes[0]), ("engine", sizes[1])):
                print(f"\n{name}: {mib[0]:.1f} MiB at the start, {mib[-1]:.1f} after")
            counts = load.counts
            print(
                f"\n{counts['whole']:,} whole answers, {counts['equal']:,} of them as alone; "
                f"{counts['left']:,} left; {counts['failed']:,} failed; "
                f"{served.gauge('openchat_replies_running'):.0f} run and "
                f"{served.gauge('openchat_replies_waiting'):.0f} wait afterwards"
            )
            for line in load.wrong[:5]:
                print(line)


class _Load:
    """What clients ask, and what became of it: `counts`, and what was `wrong`."""

    def __init__(self, served: Served) -> None:
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._served = served
        prompts = [f"In a few words, what are {thing} for?" for thing in THINGS]
        both = [(prompt, model) for prompt in prompts for model in served.models()]
        self._asked = [one for one in both if served.lead(one[0], TOKENS, one[1]) > _SURE]
        self._alone = {one: self._ask(*one, stream=False) for one in self._asked}
        self._lock = threading.Lock()

    @property
    def questions(self) -> int:
        return len(self._asked)

    def run(self, seconds: float) -> tuple[list[float], list[float]]:
        """MiB of the server and of its engine, once they are warm and then once a minute."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._client, args=(n, end)) for n in range(CLIENTS)]
        for thread in threads:
            thread.start()
        own: list[float] = []
        engines: list[float] = []
        pause = min(20.0, seconds / 10)  # until all paths were taken once
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, pause))
            pause = 60.0
            mine, engine = self._served.resident()
            own.append(mine / 2**20)
            engines.append(engine / 2**20)
        for thread in threads:
            thread.join()
        return own, engines

    def _client(self, number: int, end: float) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            one = chance.choice(self._asked)
            try:
                if chance.random() < LEAVING:
                    self._leave(*one, chance)
                    self._count("left")
                    continue
                text = self._ask(*one, stream=chance.random() < 0.5)
            except (OSError, RuntimeError) as error:
                self._count("failed")
                self.wrong.append(f"{one}: {error}")
                continue
            self._count("whole")
            if text == self._alone[one]:
                self._count("equal")
            else:
                self.wrong.append(f"{one}: {text!r} instead of {self._alone[one]!r}")

    def _ask(self, prompt: str, model: str, *, stream: bool) -> str:
        return self._served.chat(prompt, TOKENS, stream=stream, model=model).text

    def _leave(self, prompt: str, model: str, chance: random.Random) -> None:
        with self._served.asked(prompt, 10 * TOKENS, stream=True, model=model) as response:
            for _ in zip(range(chance.randrange(8)), events(response), strict=False):
                pass

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[what] += 1


def _adapter(path: Path, model: Path, seed: int, *, size: float = 0.02) -> Path:
    """An adapter of random numbers, which changes what the model says, the more the larger
    they are."""
    base, config, numbers = read_gguf(model), LoraConfig(rank=4), np.random.default_rng(seed)
    weights = {
        name: LoraPair(pair.a, size * numbers.standard_normal(pair.b.shape, np.float32))
        for name, pair in initial_lora(lora_shapes(base, config), config, seed).items()
    }
    card = AdapterCard((), "chatml", base.name, base.fingerprint, None)
    write_gguf(path, weights, config, base, card)
    return path
