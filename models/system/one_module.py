"""One module of a package, without all that the package imports beside it."""

from __future__ import annotations

import importlib
import sys
import threading
from functools import cache
from importlib.util import find_spec, module_from_spec
from typing import Any

_one_at_a_time = threading.Lock()


@cache
def one_module(name: str) -> Any:
    """The module of that name ("package.part"), whose package's own `__init__` is not run: that
    of mlx-lm takes two seconds of a processor, for what loads and generates with it.

    Whoever imports the package later gets all of it. Raises ModuleNotFoundError where it is not
    installed.
    """
    package = name.partition(".")[0]
    with _one_at_a_time:
        if package in sys.modules:
            return importlib.import_module(name)
        spec = find_spec(package)
        if spec is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        sys.modules[package] = module_from_spec(spec)
        try:
            return importlib.import_module(name)
        finally:  # as if it had not been imported
            for part in [part for part in sys.modules if part.partition(".")[0] == package]:
                del sys.modules[part]
