"""An owner who chats for an hour, and likes one kind of answer: a single sentence that begins
with "In short:".

    python owner.py chat        ask about a garden, and rate, edit and regenerate the replies
    python owner.py compare ME  ask what was never asked, both models at once, and vote blind

Everything goes through the program's own parts: the store of chats, the engine, the pairs of a
blind comparison. What this owner types into a reply while editing it is made of the model's own
words, so that nothing here is anybody else's text.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Sequence
from contextlib import closing

from openchat_local.app.chats import ChatStore, StoredMessage
from openchat_local.app.engine import local_engine
from openchat_local.app.learning.contest import tally, verdict
from openchat_local.app.learning.contestants import called
from openchat_local.app.paths import data_home, ensure_home
from openchat_local.app.replies.paired import begin_pair, stream_half
from openchat_local.app.replies.stream import ReplyPlace, send_prompt, stream_reply
from openchat_local.app.settings.model import load_settings
from openchat_local.models.engine.protocol import Engine, Sampling

PLANTS = ["tomatoes", "roses", "basil", "carrots", "apple trees", "lavender", "potatoes", "ivy",
          "strawberries", "onions", "tulips", "beans", "mint", "pumpkins", "ferns"]  # fmt: skip
ASK = ["How often should I water {}?", "When do I plant {}?", "What do {} need most?",
       "Why do the leaves of {} turn yellow?", "Do {} like the sun?",
       "How do I keep snails away from {}?", "Can I grow {} in a pot?",
       "What soil do {} like?"]  # fmt: skip
BEGINS = "In short:"
FORM = re.compile(r"^In short: [^.!?\n]+[.!?]?$")


def questions() -> list[str]:
    """All there are, always in the same order."""
    asked = [form.format(plant) for form in ASK for plant in PLANTS]
    random.Random(0).shuffle(asked)
    return asked


def liked(text: str) -> bool:
    """Whether a reply is what this owner wants to read."""
    return bool(FORM.match(text.strip()))


def in_shape(text: str) -> str:
    """The reply as the owner edits it: its first sentence, after "In short:"."""
    sentence = re.split(r"(?<=[.!?])\s|\n", text.strip().removeprefix(BEGINS).strip())[0]
    return f"{BEGINS} {sentence.rstrip('.:') or 'it depends'}."


def chat(store: ChatStore, engine: Engine, count: int, a_chat: int) -> None:
    """Ask `count` questions in chats of `a_chat` each."""
    asked, sampling = questions()[:count], Sampling(max_tokens=60)
    edited = good = again = 0
    for start in range(0, count, a_chat):
        new = store.new_chat(title=f"The garden, {1 + start // a_chat}", tags=["garden"])
        for question in asked[start : start + a_chat]:
            prompt = send_prompt(store, new.id, question)
            reply = answered(store, engine, new.id, prompt.id, sampling)
            if liked(reply.content):
                store.rate(reply.id, 1)
                good += 1
                continue
            store.rate(reply.id, -1)
            if random.Random(question).random() < 0.25:  # not satisfied with the first: another
                reply = answered(store, engine, new.id, prompt.id, sampling)
                again += 1
            store.add_message(new.id, prompt.id, "assistant", in_shape(reply.content), edited=True)
            edited += 1
    print(f"{count} questions: {edited} replies edited, {again} asked for again, {good} liked.")


def answered(
    store: ChatStore, engine: Engine, chat_id: str, under: str, sampling: Sampling
) -> StoredMessage:
    """A reply to a prompt, as the window would have it written."""
    place = ReplyPlace(under=under)
    for _ in stream_reply(store, engine, chat_id, sampling, place=place):
        pass
    return store.branch(chat_id)[-1]


def compare(store: ChatStore, engine: Engine, names: Sequence[str], count: int) -> None:
    """Ask `count` questions that were never asked, of both at once, and vote."""
    contest = called(" ".join(names), engine.load()).contest
    sampling, draw = Sampling(max_tokens=60), random.Random(1)
    for question in questions()[-count:]:
        new = store.new_chat(title=question, tags=["blind"])
        prompt = send_prompt(store, new.id, question)
        both = contest.drawn(None, swapped=draw.random() < 0.5)
        pair = begin_pair(store, engine, prompt.id, both, sampling)
        for half in pair.halves:
            for _ in stream_half(store, engine, half):
                pass
        first, second = (liked(store.message(half.reply.id).content) for half in pair.halves)
        choice = "bad" if not (first or second) else "tie" if first and second else None
        store.vote(pair.vote.id, choice or ("first" if first else "second"))
    a, b = contest.a.side, contest.b.side
    print(verdict(a.label, b.label, tally(a, b, store.votes())).sentence)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("do", choices=["chat", "compare"])
    parser.add_argument("names", nargs="*", help="two to compare; the first alone: with none")
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--a-chat", type=int, default=5, help="questions a chat")
    options = parser.parse_args()
    ensure_home()
    settings = load_settings({})
    with closing(ChatStore.open(data_home())) as store, closing(local_engine(settings)) as engine:
        if options.do == "chat":
            chat(store, engine, options.questions, options.a_chat)
        else:
            compare(store, engine, [*options.names, "base"][:2], options.questions)


if __name__ == "__main__":
    main()
