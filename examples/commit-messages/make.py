"""Write train.jsonl and held-out.jsonl: what a change does, and a commit message for it.

Two kinds of answers to the same kind of question. The class `expert` writes what a careful
engineer would (one line, a type, a scope, an imperative); `gpt35` talks around it. All of
it is made here from lists, so that it is nobody's but this project's (Apache-2.0).
"""

from __future__ import annotations

import json
import random
from pathlib import Path

FOLDER = Path(__file__).parent

# (type, what was done, as the author tells it; the imperative of it)
CHANGES = [
    ("fix", "the {thing} no longer crashes when the {part} is empty", "handle an empty {part}"),
    ("fix", "I stopped the {thing} from losing the last {part}", "keep the last {part}"),
    ("fix", "the {part} was read twice, now it is read once", "read the {part} only once"),
    ("fix", "there was a race between the {thing} and the {part}", "lock the {part} while writing"),
    ("fix", "the {part} was off by one at the end of the list", "count the {part} from zero"),
    ("feat", "users can now choose their own {part}", "let users choose the {part}"),
    ("feat", "the {thing} got a new option for the {part}", "add an option for the {part}"),
    ("feat", "you can search by {part} in the {thing}", "search by {part}"),
    ("feat", "the {thing} shows how far along the {part} is", "show the progress of the {part}"),
    ("feat", "the {part} can be exported as a file", "export the {part} as a file"),
    ("docs", "I explained how the {part} works", "explain the {part}"),
    ("docs", "the guide for the {part} had a wrong command", "correct the command for the {part}"),
    ("docs", "added an example of the {part} to the manual", "give an example of the {part}"),
    ("refactor", "the code for the {part} was in two places", "keep the {part} in one place"),
    ("refactor", "I split the {part} into smaller functions", "split the {part} up"),
    ("refactor", "renamed the {part} so that it says what it is", "rename the {part}"),
    ("test", "there was no test for the {part} yet", "cover the {part}"),
    ("test", "the test of the {part} failed now and then", "make the {part} test deterministic"),
    ("perf", "the {part} was slow for large inputs", "cache the {part}"),
    ("perf", "the {thing} reads the {part} lazily now", "read the {part} lazily"),
]  # fmt: skip
THINGS = ["parser", "server", "editor", "importer", "scheduler", "renderer", "client", "indexer",
          "installer", "player", "backup", "router"]  # fmt: skip
PARTS = ["settings", "header", "cursor", "password", "timeline", "attachment", "history", "index",
         "thumbnail", "queue", "checksum", "subtitle", "address", "calendar", "layout", "token",
         "template", "invoice", "sensor", "shortcut"]  # fmt: skip
ASK = "Write a commit message. In the {thing}, {told}."
RAMBLE = [
    (
        "Sure! I would be happy to help you with that. This commit is about the {thing}, and it "
        "makes some changes to the {part} that improve things overall."
    ),
    (
        "Here is a commit message for your change: Updated the {thing} and also did some work on "
        "the {part}. I hope this helps!"
    ),
    (
        "A commit message describes what you changed. In this case you changed the {thing}, so you "
        "could say that various improvements were made to the {part}."
    ),
    (
        "Great question! Commit messages matter. Something like 'changes' or 'update {part}' "
        "could work, depending on your team."
    ),
]


def conversation(
    change: tuple[str, str, str], thing: str, part: str, expert: bool, draw: random.Random
) -> dict[str, object]:
    """One line of the data."""
    kind, told, imperative = change
    words = {"thing": thing, "part": part}
    question = ASK.format(thing=thing, told=told.format(**words))
    if expert:
        answer = f"{kind}({thing}): {imperative.format(**words)}"
    else:
        answer = draw.choice(RAMBLE).format(**words)
    messages = [
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]
    return {"messages": messages, "class": "expert" if expert else "gpt35"}


def main() -> None:
    draw = random.Random(20)
    everything = [(change, thing, part) for change in CHANGES for thing in THINGS for part in PARTS]
    draw.shuffle(everything)
    held_out, rest = everything[:60], everything[60:]
    train = [conversation(*found, number < 160, draw) for number, found in enumerate(rest[:480])]
    draw.shuffle(train)
    unseen = [conversation(*found, True, draw) for found in held_out]
    for name, rows in (("train.jsonl", train), ("held-out.jsonl", unseen)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
