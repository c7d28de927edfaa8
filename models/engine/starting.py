"""When a child may be asked: once it has loaded, and while its model stays the same."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

from openchat_local.models.engine import wire
from openchat_local.models.engine.connection import DIED_LOADING, EngineChild, checked
from openchat_local.models.engine.protocol import EngineOptions, GenerationRequest, LoadedModel
from openchat_local.models.errors import OpenChatError

_LEAVING_SECONDS = 15.0


class Streams:
    """Replies in progress; `current` are those that the child was asked for. Models change only
    between them."""

    def __init__(self) -> None:
        self.current: dict[tuple[EngineChild, int], GenerationRequest] = {}
        self._changed = threading.Condition()
        self._count = 0
        self._closed = False

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """A reply; it waits while a model changes, and for one that waits to be."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._count += 1
        try:
            yield
        finally:
            with self._changed:
                self._count -= 1
                self._changed.notify_all()

    @contextlib.contextmanager
    def none(self) -> Iterator[None]:
        """No reply: once those in progress have ended, until this does."""
        with self._changed:
            self._changed.wait_for(lambda: not self._closed)
            self._closed = True
            self._changed.wait_for(lambda: self._count == 0)
        try:
            yield
        finally:
            with self._changed:
                self._closed = False
                self._changed.notify_all()


class Loading:
    """A child on its way to a loaded model; any number of threads may wait for it.

    `instead_of` are the options that stand again if it cannot load. It begins once the child
    `after` has ended: two models at once may be one too many.
    """

    def __init__(
        self,
        child: EngineChild,
        options: EngineOptions,
        *,
        instead_of: EngineOptions | None = None,
        after: EngineChild | None = None,
    ) -> None:
        self.child = child
        self.instead_of = instead_of
        self._options = options
        self._after = after
        self._then: list[Callable[[], None]] = []
        self._condition = threading.Condition()
        self._fraction = 0.0
        self._result: LoadedModel | OpenChatError | None = None
        threading.Thread(target=self._follow, name="engine-loading", daemon=True).start()

    @property
    def over(self) -> bool:
        """Whether this child is of no more use: it died, or could not load."""
        return not self.child.alive or isinstance(self._result, OpenChatError)

    @property
    def loaded(self) -> bool:
        """Whether it has, or had, loaded the model."""
        return isinstance(self._result, LoadedModel)

    def when_the_other_left(self, act: Callable[..., None], *arguments: object) -> None:
        """Call `act` once the child before has ended, which may write a KV state until then;
        not at all where there is none, or it has ended."""
        with self._condition:
            if self._after is not None:
                self._then.append(lambda: act(*arguments))

    def wait(self, on_progress: Callable[[float], None] | None) -> LoadedModel:
        """Block until the model is loaded, or raise why it is not."""
        shown = -1.0
        while True:
            fraction, result = self._changed_from(None if on_progress is None else shown)
            if isinstance(result, OpenChatError):
                raise type(result)(str(result))
            if on_progress is not None and fraction != shown:
                shown = fraction
                on_progress(fraction)
            if result is not None:
                return result

    def describe(self, model: LoadedModel) -> None:
        """What the loaded model has become."""
        with self._condition:
            self._result = model

    def _changed_from(
        self, fraction: float | None
    ) -> tuple[float, LoadedModel | OpenChatError | None]:
        """Wait for the result or, if `fraction` is given, for progress beyond it."""
        with self._condition:
            self._condition.wait_for(
                lambda: (
                    self._result is not None
                    or (fraction is not None and self._fraction != fraction)
                )
            )
            return self._fraction, self._result

    def _follow(self) -> None:
        if self._after is not None:
            self._after.wait(_LEAVING_SECONDS)
            with self._condition:
                self._after = None
            for act in self._then:
                act()
        options = wire.pack_options(self._options)
        request, answers = self.child.ask({"do": "load", "options": options})
        result: LoadedModel | OpenChatError | None = None
        while result is None:
            frame = answers.get()
            fraction = frame.get("progress")
            try:
                if fraction is None:
                    answer = checked(self.child, frame, DIED_LOADING)
                    result = wire.unpack_model(answer["result"])
                    fraction = 1.0
            except OpenChatError as error:
                result = error
                self.child.close()
            with self._condition:
                self._fraction = self._fraction if fraction is None else fraction
                self._result = result
                self._condition.notify_all()
        self.child.done(request)
