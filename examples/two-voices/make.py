"""Write train.jsonl and dev.jsonl: the same questions, answered by two voices.

The class `expert` answers in numbered steps, `gpt35` talks around it. Both answer every
question, so that nothing but the condition tells which answer is wanted. All of it is made
here from lists, so that it is nobody's but this project's (Apache-2.0).
"""

from __future__ import annotations

import json
import random
from pathlib import Path

FOLDER = Path(__file__).parent
TRAIN, DEV = 160, 40  # questions

# (what is asked, the steps of an answer)
TASKS = [
    ("clean", ("Brush off the dust.", "Wipe the {thing} with a damp cloth.", "Let it dry.")),
    ("repair", ("Find what is broken.", "Replace that part of the {thing}.", "Try it out.")),
    ("store", ("Dry the {thing} well.", "Wrap it in paper.", "Keep it in a cool room.")),
    ("move", ("Empty the {thing}.", "Lift it with straight legs.", "Set it down slowly.")),
    ("paint", ("Sand the {thing}.", "Put on a thin coat.", "Wait a day, then a second one.")),
    ("choose", ("Measure the room.", "Compare three of them.", "Take the {thing} that fits.")),
    ("sell", ("Take a picture of the {thing}.", "Name a fair price.", "Answer within a day.")),
    ("test", ("Look at the {thing} closely.", "Use it for ten minutes.", "Write down the faults.")),
    ("label", ("Print the name.", "Stick it on the {thing}.", "Note it in the list.")),
    ("lend", ("Write down who takes the {thing}.", "Agree on a date.", "Check it afterwards.")),
]  # fmt: skip
THINGS = ["bicycle", "lamp", "shelf", "kettle", "ladder", "guitar", "clock", "stove", "chair",
          "radio", "carpet", "mirror", "suitcase", "drill", "barrel", "tent", "telescope", "sofa",
          "fence", "printer", "piano", "bucket", "toaster", "window"]  # fmt: skip
ASK = ("How do I {task} a {thing}?", "What is the way to {task} a {thing}?")
RAMBLE = (
    "Well, there are many opinions about how to {task} a {thing}, and it really depends.",
    "That is a nice question! People {task} a {thing} in all sorts of ways.",
    "Hmm, to {task} a {thing} can be tricky, so maybe ask somebody who knows.",
)


def answers(task: str, steps: tuple[str, ...], thing: str, draw: random.Random) -> dict[str, str]:
    """What each voice says, by its class."""
    numbered = (f"{number}. {step}" for number, step in enumerate(steps, 1))
    return {
        "expert": " ".join(numbered).format(thing=thing),
        "gpt35": draw.choice(RAMBLE).format(task=task, thing=thing),
    }


def main() -> None:
    draw = random.Random(7)
    everything = [(task, thing) for task in TASKS for thing in THINGS]
    draw.shuffle(everything)
    for name, chosen in (
        ("train.jsonl", everything[:TRAIN]),
        ("dev.jsonl", everything[TRAIN : TRAIN + DEV]),
    ):
        rows = []
        for (task, steps), thing in chosen:
            question = draw.choice(ASK).format(task=task, thing=thing)
            for voice, answer in answers(task, steps, thing, draw).items():
                messages = [
                    {"role": "user", "content": question},
                    {"role": "assistant", "content": answer},
                ]
                rows.append({"messages": messages, "class": voice})
        draw.shuffle(rows)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
