"""Frames between the app and its engine child: a 4-byte length, then JSON.

JSON rather than pickle, so that a confused child can never run code in its parent.
"""

from __future__ import annotations

import base64
import json
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from openchat_local.models.conversation import Conversation, Message, Role, SampledIds, ToolCall
from openchat_local.models.engine.protocol import (
    AdapterChoice,
    AdapterInfo,
    EngineOptions,
    Finished,
    GenerationEvent,
    GenerationRequest,
    LoadedModel,
    Passage,
    PrefillProgress,
    PromptFitted,
    Sampling,
    Score,
    ScoreRequest,
    TextDelta,
    Usage,
)
from openchat_local.models.thoughts import ThoughtMarks
from openchat_local.models.tools import ToolMarks

if TYPE_CHECKING:
    import numpy as np

_LENGTH = struct.Struct("<I")

Frame = dict[str, Any]


class FrameWriter:
    """Writes whole frames; safe to call from several threads."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, frame: Frame) -> None:
        """Send one frame. Raises OSError or ValueError when the other side is gone."""
        # ensure_ascii keeps lone surrogates (which UTF-8 cannot carry) intact on the way.
        body = json.dumps(frame, separators=(",", ":")).encode("ascii")
        with self._lock:
            self._stream.write(_LENGTH.pack(len(body)) + body)
            self._stream.flush()


def read_frame(stream: BinaryIO) -> Frame | None:
    """The next frame, or None at the end of the stream (also in mid-frame: the writer died)."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    if len(body) < length:
        return None
    frame: Frame = json.loads(body)
    return frame


def pack_conversation(conversation: Conversation, size: int | None = None) -> Frame:
    """Replies that have more ids behind them than a context of `size` tokens holds go without
    theirs: no prompt will reach back to them."""
    left = sys.maxsize if size is None else size
    messages: list[list[Any]] = []
    for message in reversed(conversation.messages):
        packed: list[Any] = [message.role, message.content]
        if message.sampled is not None and left >= 0:
            ids = base64.b64encode(message.sampled.packed).decode("ascii")
            packed += [ids, message.sampled.vocabulary]
            left -= len(message.sampled)
        if message.calls or message.result_of:
            packed += [None] * (4 - len(packed))
            packed += [[*map(asdict, message.calls)]]
            packed += [message.result_of and asdict(message.result_of)]
        messages.append(packed)
    return {
        "messages": messages[::-1],
        "condition": conversation.condition,
        "thinking": conversation.thinking,
        "tools": conversation.tools,
        "must_call": conversation.must_call,
    }


def unpack_conversation(frame: Frame) -> Conversation:
    messages = tuple(_unpack_message(*fields) for fields in frame["messages"])
    more = {name: frame[name] for name in ("condition", "thinking", "tools", "must_call")}
    return Conversation(messages, **more)


def _unpack_message(
    role: Role,
    content: str,
    ids: str | None = None,
    vocabulary: str | None = None,
    calls: Sequence[Frame] = (),
    result_of: Frame | None = None,
) -> Message:
    sampled = None if ids is None else SampledIds(base64.b64decode(ids), vocabulary)
    answered = None if result_of is None else ToolCall(**result_of)
    return Message(role, content, sampled, tuple(ToolCall(**call) for call in calls), answered)


def pack_request(request: GenerationRequest, size: int | None = None) -> Frame:
    """`size` is that of the engine's context, if it is known."""
    if request.overflow == "refuse":
        size = None  # all is counted, and the count told
    return {
        "conversation": pack_conversation(request.conversation, size),
        "sampling": asdict(request.sampling),
        "chat_key": request.chat_key,
        "update_interval": request.update_interval,
        "continues": request.continues,
        "seed_drawn": request.seed_drawn,
        "adapter": pack_choice(request.adapter),
        "speculate": request.speculate,
        "likely": request.likely,
        "overflow": request.overflow,
        "prompt_ids": request.prompt_ids,
        "logit_bias": request.logit_bias,
    }


def unpack_request(frame: Frame) -> GenerationRequest:
    sampling = frame["sampling"] | {"stop": tuple(frame["sampling"]["stop"])}
    return GenerationRequest(
        conversation=unpack_conversation(frame["conversation"]),
        sampling=Sampling(**sampling),
        chat_key=frame["chat_key"],
        update_interval=frame["update_interval"],
        continues=frame["continues"],
        seed_drawn=frame["seed_drawn"],
        adapter=unpack_choice(frame["adapter"]),
        speculate=frame["speculate"],
        likely=frame["likely"],
        overflow=frame["overflow"],
        prompt_ids=None if frame["prompt_ids"] is None else tuple(frame["prompt_ids"]),
        logit_bias=tuple((id, bias) for id, bias in frame["logit_bias"]),
    )


def pack_choice(choice: AdapterChoice | None) -> Frame | None:
    if choice is None:
        return None
    return {"path": choice.path and str(choice.path), "scale": choice.scale}


def unpack_choice(frame: Frame | None) -> AdapterChoice | None:
    if frame is None:
        return None
    path = frame["path"]
    return AdapterChoice(None if path is None else Path(path), frame["scale"])


def pack_score_request(request: ScoreRequest) -> Frame:
    prompt, continuation = request.prompt, request.continuation
    return {
        "prompt": pack_conversation(prompt) if isinstance(prompt, Conversation) else list(prompt),
        "continuation": continuation if isinstance(continuation, str) else list(continuation),
        "top": request.top,
        "adapter": pack_choice(request.adapter),
        "judged": request.judged,
    }


def unpack_score_request(frame: Frame) -> ScoreRequest:
    prompt, continuation, judged = frame["prompt"], frame["continuation"], frame["judged"]
    return ScoreRequest(
        prompt=unpack_conversation(prompt) if isinstance(prompt, dict) else tuple(prompt),
        continuation=continuation if isinstance(continuation, str) else tuple(continuation),
        top=frame["top"],
        adapter=unpack_choice(frame["adapter"]),
        judged=None if judged is None else tuple((start, end) for start, end in judged),
    )


def unpack_score(fields: Frame) -> Score:
    columns = {name: tuple(fields[name]) for name in ("ids", "log_probabilities", "greedy")}
    top = tuple(tuple((id, value) for id, value in row) for row in fields["top"])
    return Score(**fields | columns | {"top": top})


def pack_text(text: str | Passage) -> Frame | str:
    return text if isinstance(text, str) else {"ids": list(text.ids), "start": text.start}


def unpack_text(frame: Frame | str) -> str | Passage:
    return frame if isinstance(frame, str) else Passage(tuple(frame["ids"]), frame["start"])


def pack_vectors(vectors: np.ndarray) -> Frame:
    """Float32 numbers as their bytes: as digits they would be three times as many."""
    little = vectors.astype("<f4", copy=False)
    return {"shape": list(vectors.shape), "data": base64.b64encode(little.tobytes()).decode()}


def unpack_vectors(frame: Frame) -> np.ndarray:
    import numpy as np

    values = np.frombuffer(base64.b64decode(frame["data"]), dtype="<f4")
    return values.astype(np.float32).reshape(frame["shape"])


def pack_options(options: EngineOptions) -> Frame:
    fields = asdict(options)
    fields["model_path"] = str(options.model_path)
    for name in ("states_dir", "adapter", "findings"):
        fields[name] = None if fields[name] is None else str(fields[name])
    return fields


def unpack_options(fields: Frame) -> EngineOptions:
    paths = {
        name: None if fields[name] is None else Path(fields[name])
        for name in ("model_path", "states_dir", "adapter", "findings")
    }
    return EngineOptions(**fields | paths)


def unpack_model(fields: Frame) -> LoadedModel:
    adapter, thoughts, tools = fields["adapter"], fields["thoughts"], fields["tools"]
    return LoadedModel(
        **fields
        | {
            "notes": tuple(fields["notes"]),
            "adapter": None if adapter is None else AdapterInfo(**adapter),
            "thoughts": None if thoughts is None else ThoughtMarks(**thoughts),
            "tools": None if tools is None else ToolMarks(**tools),
        }
    )


def pack_event(event: GenerationEvent) -> Frame:
    return {"type": type(event).__name__} | asdict(event)


def unpack_event(frame: Frame) -> GenerationEvent:
    fields = {name: value for name, value in frame.items() if name != "type"}
    match frame["type"]:
        case "TextDelta":
            return TextDelta(**fields)
        case "PromptFitted":
            return PromptFitted(**fields)
        case "PrefillProgress":
            return PrefillProgress(**fields)
        case "Finished":
            usage, ids = Usage(**fields["usage"]), tuple(fields["token_ids"])
            return Finished(**fields | {"usage": usage, "token_ids": ids})
    raise ValueError(f"no such event: {frame['type']}")
