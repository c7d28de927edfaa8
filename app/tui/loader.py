"""The engine as the window keeps it: loading in a thread, ready, failed, or to be restarted."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from textual.message import Message

from openchat_local.models.errors import OpenChatError

if TYPE_CHECKING:
    from textual.message_pump import MessagePump

    from openchat_local.app.settings.model import Settings
    from openchat_local.models.engine.capabilities import RemotePlace
    from openchat_local.models.engine.local import LocalEngine
    from openchat_local.models.engine.protocol import Engine, LoadedModel
    from openchat_local.models.engine.remote.engine import RemoteEngine
    from openchat_local.models.engine.remote.options import RemoteOptions


class ModelProgress(Message):
    """The model is loading; only the newest of these is worth reading."""

    def __init__(self, fraction: float) -> None:
        super().__init__()
        self.fraction = fraction

    def can_replace(self, message: MessagePump | Message) -> bool:
        return isinstance(message, ModelProgress)


class ModelLoaded(Message):
    """The engine is ready."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        self.model = model


class ModelFailed(Message):
    """The engine cannot load the model, or died while it did."""

    def __init__(self, problem: Exception) -> None:
        super().__init__()
        self.problem = problem


class ModelLoader:
    """Loads the engine without ever blocking the window, and tells `window` how it goes."""

    def __init__(self, engine: Engine | OpenChatError, window: MessagePump) -> None:
        """`engine` may be the reason why there is none."""
        self.engine = None if isinstance(engine, OpenChatError) else engine
        self.loaded: LoadedModel | None = None
        self._problem = engine if isinstance(engine, OpenChatError) else None
        self._window = window
        self._loading = False
        self._own: LocalEngine | None = None
        self._remote: RemoteEngine | None = None
        self._put_away: Engine | None = None
        """The engine of this machine, while a remote one answers."""

    @property
    def place(self) -> RemotePlace | None:
        """Where the engine answers, if that is another program."""
        from openchat_local.models.engine.remote.engine import RemoteEngine

        return self.engine.place if isinstance(self.engine, RemoteEngine) else None

    @property
    def model_here(self) -> str:
        """The file of the model that answered on this machine before a remote engine did; "" where
        none did, and where one answers now."""
        from openchat_local.models.engine.local import LocalEngine

        before = self._put_away
        return str(before.options.model_path) if isinstance(before, LocalEngine) else ""

    def load(self) -> None:
        """Begin to load, or to load again; does nothing while that is under way."""
        if self._loading:
            return
        self._loading = True
        self.loaded = None
        threading.Thread(target=self._load, name="model-loading", daemon=True).start()

    def wait(self) -> LoadedModel:
        """The model, once it is loaded; blocks. Raises OpenChatError."""
        if self.engine is None:
            assert self._problem is not None
            raise self._problem
        return self.engine.load()

    def set_adapter(self, name: str) -> LoadedModel:
        """Change the adapter ("none" for none); blocks. Raises OpenChatError."""
        from openchat_local.app.engine import adapter_path, adapter_scale

        if self.engine is None:
            assert self._problem is not None
            raise self._problem
        self.loaded = self.engine.set_adapter(adapter_path(name), adapter_scale(name))
        self._window.post_message(ModelLoaded(self.loaded))
        return self.loaded

    def set_model(self, name: str, settings: Settings) -> LoadedModel:
        """Load another model; blocks. Raises OpenChatError, and then the next `load` brings
        back the one before."""
        from openchat_local.app.engine import model_path
        from openchat_local.app.settings.remote_models import remote_options
        from openchat_local.models.engine.local import LocalEngine

        options = remote_options(settings.model_copy(update={"model": name}))
        if options is not None:
            return self._go_there(options)
        path = model_path(name)
        if self.place is not None:
            return self._come_back(name, path, settings)
        if self.engine is not None and not isinstance(self.engine, LocalEngine):
            raise OpenChatError(
                "The model of this window is chosen where its engine runs: change it there."
            )
        self._loading, self.loaded = True, None
        try:
            if self.engine is None:
                self.engine = self._own = self._engine(name, settings)
                self.loaded = self._own.load(self._tell_progress)
            else:
                self.loaded = self.engine.set_model(path, self._tell_progress)
        except OpenChatError:
            if self._own is not None and self.engine is self._own and self._own.loads <= 1:
                self.engine = self._own = None
            raise
        finally:
            self._loading = False
        self._window.post_message(ModelLoaded(self.loaded))
        return self.loaded

    def _go_there(self, options: RemoteOptions) -> LoadedModel:
        """Have a remote engine answer; that of this machine gives its memory back."""
        from openchat_local.models.engine.remote.engine import RemoteEngine

        remote = RemoteEngine(options)
        self._loading, self.loaded = True, None
        try:
            loaded = remote.load()
        finally:
            self._loading = False
        leaving, self.engine, self._remote = self.engine, remote, remote
        if isinstance(leaving, RemoteEngine):
            leaving.close()
        elif leaving is not None:
            self._put_away = leaving
            leaving.close()
        self.loaded = loaded
        self._window.post_message(ModelLoaded(loaded))
        return loaded

    def _come_back(self, name: str, path: Path, settings: Settings) -> LoadedModel:
        """Have a model of this machine answer in place of a remote one."""
        from openchat_local.models.engine.local import LocalEngine

        leaving, engine = self.engine, self._put_away
        self._loading, self.loaded = True, None
        try:
            if isinstance(engine, LocalEngine):
                loaded = engine.set_model(path, self._tell_progress)
            else:
                engine = self._own = self._engine(name, settings)
                loaded = engine.load(self._tell_progress)
        finally:
            self._loading = False
        self.engine, self._remote, self._put_away = engine, None, None
        if leaving is not None:
            leaving.close()
        self.loaded = loaded
        self._window.post_message(ModelLoaded(loaded))
        return loaded

    def close(self) -> None:
        """End an engine that was started here; the caller's is the caller's."""
        for engine in (self._own, self._remote):
            if engine is not None:
                engine.close()

    def _engine(self, name: str, settings: Settings) -> LocalEngine:
        from openchat_local.app.engine import local_engine

        changes = {"model": name, "adapter": None, "template": None}
        return local_engine(settings.model_copy(update=changes))

    def _load(self) -> None:
        try:
            if self.engine is None:
                assert self._problem is not None
                raise self._problem
            self.loaded = self.engine.load(self._tell_progress)
        except Exception as problem:  # noqa: BLE001 - the window's thread raises a bug again
            self._loading = False
            self._window.post_message(ModelFailed(problem))
        else:
            self._loading = False
            self._window.post_message(ModelLoaded(self.loaded))

    def _tell_progress(self, fraction: float) -> None:
        self._window.post_message(ModelProgress(fraction))
