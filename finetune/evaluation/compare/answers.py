"""What a contender answers to every prompt; each answer is kept when it is finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openchat_local.finetune.evaluation.asking import AT_ONCE, ask_all
from openchat_local.finetune.evaluation.compare.pairs import Answer, Dialogue
from openchat_local.finetune.evaluation.compare.prompt_rows import Prompt
from openchat_local.finetune.evaluation.contender import Contender
from openchat_local.finetune.evaluation.rows import RowFile, digest_of
from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import Engine, GenerationRequest

_Turns = tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """By `Prompt.digest`: the dialogues that are whole, and why there is none of the others."""

    dialogues: Mapping[str, Dialogue]
    failures: Mapping[str, str]


def turns_of(prompts: Sequence[Prompt]) -> int:
    """How many answers a contender gives to all of them."""
    return sum(1 + len(prompt.follow_ups) for prompt in prompts)


def answer_prompts(
    engine: Callable[[], Engine],
    contender: Contender,
    prompts: Sequence[Prompt],
    kept: RowFile,
    *,
    at_once: int = AT_ONCE,
    on_answers: Callable[[int], None] = lambda _: None,
) -> Answers:
    """The contender's answers; a follow-up is asked after its own answer to the turn before.

    `kept` has the answers that are there already, by what was asked, and gets those that come;
    `engine` is only called for where some are missing. `on_answers` is told how many there are.
    Raises EngineDied, or RowsUnwritten; what had come until then is kept.
    """
    known = {row["asked"]: _read(row) for row in kept.rows() if _is_whole(row)}
    dialogues: dict[str, Dialogue] = {prompt.digest: () for prompt in prompts}
    failures: dict[str, str] = {}
    done = 0
    for turn in range(max((1 + len(prompt.follow_ups) for prompt in prompts), default=0)):
        due = {
            prompt.digest: _so_far(prompt, dialogues[prompt.digest])
            for prompt in prompts
            if turn <= len(prompt.follow_ups) and prompt.digest not in failures
        }
        missing = [turns for turns in due.values() if _key(turns) not in known]
        done += len(due) - len(missing)
        on_answers(done)
        wrong: dict[str, str] = {}
        requests = [_request(contender, turns) for turns in missing]
        for asked in ask_all(engine(), requests, at_once=at_once) if requests else ():
            key = _key(missing[asked.index])
            if asked.error is not None:
                wrong[key] = asked.error
            else:
                known[key] = Answer(asked.text, asked.tokens, asked.reason == "length")
                kept.append({"asked": key, **_row(known[key])})
            done += 1
            on_answers(done)
        for digest, turns in due.items():
            if (answer := known.get(_key(turns))) is not None:
                dialogues[digest] += (answer,)
            else:
                failures[digest] = wrong[_key(turns)]
    whole = {digest: each for digest, each in dialogues.items() if digest not in failures}
    return Answers(whole, failures)


def _so_far(prompt: Prompt, answers: Dialogue) -> _Turns:
    """The conversation whose last turn is to be answered next."""
    turns = [*prompt.messages]
    for answer, follow_up in zip(answers, prompt.follow_ups, strict=False):
        turns += (Message("assistant", answer.text), Message("user", follow_up))
    return tuple(turns)


def _request(contender: Contender, turns: _Turns) -> GenerationRequest:
    """`seed_drawn`: to the last bit an answer need not come again, since it is kept, and so many
    are written together. Drafts depend on the clock, and on a quantised model an answer on them."""
    return GenerationRequest(
        Conversation(turns, contender.condition),
        contender.sampling,
        adapter=contender.choice,
        seed_drawn=True,
        speculate=False,
    )


def _key(turns: _Turns) -> str:
    return digest_of([[turn.role, turn.content] for turn in turns])[:32]


def _row(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "tokens": answer.tokens, "cut": answer.cut}


def _read(row: Mapping[str, Any]) -> Answer:
    return Answer(row["text"], row["tokens"], row["cut"])


def _is_whole(row: Mapping[str, Any]) -> bool:
    kinds = {"asked": str, "text": str, "tokens": int, "cut": bool}
    return all(isinstance(row.get(name), kind) for name, kind in kinds.items())
