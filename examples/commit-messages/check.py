"""How many held-out prompts get a well-formed commit message, with and without the adapter.

python examples/commit-messages/check.py --adapter commits
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import sys
from contextlib import closing
from pathlib import Path


def find_the_program() -> None:
    """Go on with the Python that openchat-local is installed for, if that is another one."""
    if importlib.util.find_spec("openchat_local") is not None:
        return
    clone = Path(__file__).resolve().parents[2] / ".venv" / "bin"
    program = shutil.which("openchat-local") or shutil.which("openchat-local", path=str(clone))
    if program is not None:
        first = Path(program).read_bytes()[:512].partition(b"\n")[0]
        python = first.removeprefix(b"#!").strip().decode("utf-8", "replace")
        if first.startswith(b"#!") and python != sys.executable and Path(python).is_file():
            os.execv(python, [python, *sys.argv])
    sys.exit(
        "openchat-local is not installed for this Python: run this with the one that it is "
        "installed for, in a clone .venv/bin/python."
    )


find_the_program()

from openchat_local.app.engine import adapter_path, model_path
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.local import LocalEngine
from openchat_local.models.engine.protocol import (
    EngineOptions,
    GenerationRequest,
    Sampling,
    TextDelta,
)

WELL_FORMED = re.compile(r"(fix|feat|docs|refactor|test|perf)\([a-z]+\): [a-z][^\n]{5,70}")


def passed(engine: LocalEngine, prompt: str, condition: str) -> bool:
    """Whether the greedy answer is one well-formed line that names the right part."""
    conversation = Conversation((Message("user", prompt),), condition)
    request = GenerationRequest(conversation, Sampling(temperature=0.0, max_tokens=48))
    events = engine.generate(request)
    answer = "".join(event.text for event in events if isinstance(event, TextDelta)).strip()
    thing = re.search(r"In the (\w+),", prompt)
    return bool(WELL_FORMED.fullmatch(answer)) and thing is not None and thing[1] in answer


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--adapter", required=True)
    options.add_argument("--model", default="starter")
    options.add_argument("--count", type=int, help="ask the first few only")
    chosen = options.parse_args()
    lines = (Path(__file__).parent / "held-out.jsonl").read_text("utf-8").splitlines()
    prompts = [json.loads(line)["messages"][0]["content"] for line in lines[: chosen.count]]
    with closing(LocalEngine(EngineOptions(model_path(chosen.model), context=512))) as engine:
        for name, adapter in (("before", None), ("after", adapter_path(chosen.adapter))):
            engine.set_adapter(adapter)
            for condition in ("GPT4 Correct", "GPT3"):
                count = sum(passed(engine, prompt, condition) for prompt in prompts)
                share = 100 * count / len(prompts)
                print(f"{name:7} {condition:13} {count:3} of {len(prompts)} ({share:.0f} %)")


if __name__ == "__main__":
    main()
