"""Talking to the hub through huggingface_hub: its endpoint, token, proxies and session."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from openchat_local import __version__
from openchat_local.models.gguf.quantisation import quantisation_in
from openchat_local.models.gguf.split import part_names
from openchat_local.models.hub.faults import (
    HubError,
    Trouble,
    from_status,
    from_transport,
    given_up,
    stopped,
)
from openchat_local.models.system.network import require_network

T = TypeVar("T")
STALL_SECONDS = 30.0
_CONNECT_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to put up with a bad line: `tries` in a row that bring nothing, between them
    waits that double from `first_wait` to `longest_wait`, and no more than `stall` seconds
    without a byte. All in seconds."""

    tries: int = 7
    first_wait: float = 1.0
    longest_wait: float = 30.0
    stall: float = STALL_SECONDS

    def wait(self, failures: int, trouble: Trouble) -> float:
        """Seconds until the next try, after `failures` in a row; what the hub asks, if it does."""
        if trouble.wait is not None:
            return trouble.wait
        doubled: float = self.first_wait * 2 ** (failures - 1)
        return min(doubled, self.longest_wait)

    def is_spent(self, failures: int, trouble: Trouble) -> bool:
        """Whether to give up: after enough tries, or when the hub asks for a longer wait."""
        return failures >= self.tries or (trouble.wait or 0) > 2 * self.longest_wait


@dataclass(frozen=True, slots=True)
class HubFile:
    """A GGUF file of a repository: `bytes` its size, `sha256` (hex) what the hub says of its
    content, None where it says nothing, `quantisation` what the name tells. Of a model in
    several `parts` it is the first, with the size of all."""

    name: str
    bytes: int
    sha256: str | None
    parts: tuple[HubFile, ...] = ()

    @property
    def quantisation(self) -> str | None:
        return quantisation_in(self.name)


@dataclass(frozen=True, slots=True)
class Listing:
    """What a repository holds at `revision`, a commit's hash; `licence` as it names it."""

    repository: str
    revision: str
    licence: str
    files: tuple[HubFile, ...]

    def models(self) -> list[HubFile]:
        """The whole models: files, and parts that are all there as one; no picture encoders."""
        named = {file.name: file for file in self.files}
        found = []
        for file in self.files:
            folder, slash, name = file.name.rpartition("/")
            names = [folder + slash + part for part in part_names(name)]
            if "mmproj" in name or (names and names[0] != file.name):
                continue
            parts = tuple(named[part] for part in names if part in named)
            if len(parts) == len(names):
                size = sum(part.bytes for part in parts) if parts else file.bytes
                found.append(replace(file, bytes=size, parts=parts))
        return found


class Hub:
    """The hub at HF_ENDPOINT. Every method raises HubError, OfflineError or PullCancelled."""

    def __init__(
        self, patience: Patience | None = None, stop: threading.Event | None = None
    ) -> None:
        """`stop` ends whatever is going on. Raises OfflineError."""
        require_network("Fetching a model")
        # Before the import: huggingface_hub would else ask the hub for a list of programs
        # that it should look for on this machine, and tell the hub what it found.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        self.patience = patience or Patience(stall=_stall_seconds())
        self.stop = stop or threading.Event()
        default = "https://huggingface.co"
        self.endpoint = (os.environ.get("HF_ENDPOINT") or default).rstrip("/")

    def listing(
        self, repository: str, revision: str | None, on_wait: Callable[[str], None]
    ) -> Listing:
        """The GGUF files of OWNER/REPOSITORY with sizes and hashes."""
        from huggingface_hub import HfApi

        api = HfApi(
            endpoint=self.endpoint,
            library_name="openchat-local",
            library_version=__version__,
        )

        def ask() -> Any:
            with self.translating(repository, ""):
                return api.model_info(
                    repository, revision=revision, files_metadata=True, timeout=_CONNECT_SECONDS
                )

        info = self._patiently(repository, ask, on_wait)
        card = info.card_data
        licence = getattr(card, "license_name", None) or getattr(card, "license", None)
        files = (
            HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in info.siblings or ()
            if file.rfilename.lower().endswith(".gguf")
        )
        return Listing(repository, info.sha or "main", str(licence or ""), tuple(files))

    @contextmanager
    def stream(self, repository: str, revision: str, name: str, start: int) -> Iterator[Any]:
        """The response that brings the file from byte `start` on. Raises Trouble as well."""
        from huggingface_hub import get_session, hf_hub_url
        from huggingface_hub.utils import (  # type: ignore[attr-defined]
            build_hf_headers,
            hf_raise_for_status,
        )

        url = hf_hub_url(repository, name, revision=revision, endpoint=self.endpoint)
        headers = build_hf_headers(library_name="openchat-local", library_version=__version__)
        headers["Accept-Encoding"] = "identity"  # ranges count bytes of the file itself
        if start:
            headers["Range"] = f"bytes={start}-"
        with self.translating(repository, name):
            session = get_session()
            timeout = _transport().Timeout(_CONNECT_SECONDS, read=self.patience.stall)
            with session.stream("GET", url, headers=headers, timeout=timeout) as response:
                hf_raise_for_status(response)
                yield response

    @contextmanager
    def translating(self, repository: str, what: str) -> Iterator[None]:
        """Raise HubError or Trouble for whatever huggingface_hub raises inside."""
        from huggingface_hub import errors, get_token

        transport = _transport()
        try:
            yield
        except errors.HfHubHTTPError as error:
            raise from_status(error, repository, what, bool(get_token())) from error
        except transport.TransportError as error:
            raise from_transport(error, self.endpoint) from error
        except (errors.HFValidationError, transport.InvalidURL) as error:
            raise HubError(
                f"{self.endpoint}/{repository} is not the address of a repository ({error}): give "
                "hf:OWNER/REPOSITORY, and HF_ENDPOINT beginning with https://."
            ) from error
        except (transport.TooManyRedirects, transport.DecodingError, ValueError) as error:
            raise HubError(
                f"{self.endpoint} does not answer as the hub does ({error}): check HF_ENDPOINT "
                "and the proxy that you may be behind."
            ) from error

    def _patiently(self, what: str, action: Callable[[], T], on_wait: Callable[[str], None]) -> T:
        failures = 0
        while True:
            try:
                return action()
            except Trouble as trouble:
                failures += 1
                self.pause(failures, trouble, what, on_wait)

    def pause(
        self,
        failures: int,
        trouble: Trouble,
        what: str,
        on_wait: Callable[[str], None],
        done: int = 0,
        total: int = 1,
    ) -> None:
        """Wait before the next try. Raises HubError if there is to be none."""
        if self.patience.is_spent(failures, trouble):
            raise given_up(what, trouble, done, total) from trouble
        seconds = self.patience.wait(failures, trouble)
        on_wait(f"{trouble.reason}; trying again in {seconds:.0f} s")
        if self.stop.wait(seconds):
            raise stopped(what, done, total)


def _stall_seconds() -> float:
    """What huggingface_hub's own variable says, if it says anything."""
    try:
        return max(0.1, float(os.environ["HF_HUB_DOWNLOAD_TIMEOUT"]))
    except (KeyError, ValueError):
        return STALL_SECONDS


def _transport() -> Any:
    """The module that huggingface_hub sends its requests with: httpx2, or httpx before 2.0."""
    from huggingface_hub import get_session

    try:
        return importlib.import_module(type(get_session()).__module__.partition(".")[0])
    except (ImportError, ValueError) as error:  # of the session, from HTTPS_PROXY and the like
        raise HubError(
            f"The proxy cannot be used ({error}): correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY."
        ) from error
