"""Frames between the app and its engine child: a 4-byte length, then JSON.

JSON rather than pickle, so that a confused child can never run code in its parent.
"""

from __future__ import annotations

import json
import struct
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from openchat_local.models.conversation import Conversation, Message
from openchat_local.models.engine.protocol import (
    AdapterInfo,
    EngineOptions,
    Finished,
    GenerationEvent,
    GenerationRequest,
    LoadedModel,
    PrefillProgress,
    Sampling,
    TextDelta,
    Usage,
)

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


def pack_conversation(conversation: Conversation) -> Frame:
    return {
        "messages": [[message.role, message.content] for message in conversation.messages],
        "condition": conversation.condition,
    }


def unpack_conversation(frame: Frame) -> Conversation:
    messages = tuple(Message(role, content) for role, content in frame["messages"])
    return Conversation(messages, frame["condition"])


def pack_request(request: GenerationRequest) -> Frame:
    return {
        "conversation": pack_conversation(request.conversation),
        "sampling": asdict(request.sampling),
        "chat_key": request.chat_key,
        "update_interval": request.update_interval,
        "continues": request.continues,
        "seed_drawn": request.seed_drawn,
        "speculate": request.speculate,
        "likely": request.likely,
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
        speculate=frame["speculate"],
        likely=frame["likely"],
    )


def pack_options(options: EngineOptions) -> Frame:
    fields = asdict(options)
    fields["model_path"] = str(options.model_path)
    for name in ("states_dir", "adapter"):
        fields[name] = None if fields[name] is None else str(fields[name])
    return fields


def unpack_options(fields: Frame) -> EngineOptions:
    paths = {
        name: None if fields[name] is None else Path(fields[name])
        for name in ("model_path", "states_dir", "adapter")
    }
    return EngineOptions(**fields | paths)


def unpack_model(fields: Frame) -> LoadedModel:
    adapter = fields["adapter"]
    return LoadedModel(
        **fields
        | {
            "notes": tuple(fields["notes"]),
            "adapter": None if adapter is None else AdapterInfo(**adapter),
        }
    )


def pack_event(event: GenerationEvent) -> Frame:
    return {"type": type(event).__name__} | asdict(event)


def unpack_event(frame: Frame) -> GenerationEvent:
    fields = {name: value for name, value in frame.items() if name != "type"}
    match frame["type"]:
        case "TextDelta":
            return TextDelta(**fields)
        case "PrefillProgress":
            return PrefillProgress(**fields)
        case "Finished":
            usage, ids = Usage(**fields["usage"]), tuple(fields["token_ids"])
            return Finished(**fields | {"usage": usage, "token_ids": ids})
    raise ValueError(f"no such event: {frame['type']}")
