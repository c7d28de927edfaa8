"""The one kind of error that a person reads."""

from __future__ import annotations


class OpenChatError(Exception):
    """One sentence for the user: what was wrong, where, and what to do next.

    Every face of the program (command line, window) shows `str(error)` and
    nothing else; `--debug` adds the traceback. Anything that is not an
    `OpenChatError` and reaches a face is a bug.
    """


class ModelFileError(OpenChatError):
    """A model file is missing, unreadable, truncated or not GGUF."""


class TemplateError(OpenChatError):
    """No template fits the model, or the model's own template cannot be used."""


class EngineError(OpenChatError):
    """The engine refused a request; it is still alive and can take the next one."""


class ModelLoadError(EngineError):
    """The model could not be loaded (bad file, or not enough memory)."""


class ContextOverflow(EngineError):
    """The prompt does not fit into the context window."""


class DoesNotFit(ContextOverflow):
    """A conversation of `tokens` tokens that cannot be made short enough."""

    def __init__(self, sentence: str, tokens: int) -> None:
        super().__init__(sentence)
        self.tokens = tokens


class EngineDied(EngineError):
    """The engine's process ended in mid-work; the next request starts a new one."""


class ConnectionLost(EngineError):
    """A remote engine went away in mid-reply; what it had said is kept."""


class EngineClosed(EngineError):
    """The engine was closed while a question was on its way."""


class AdapterError(EngineError):
    """An adapter is missing, damaged, or made for another model."""
