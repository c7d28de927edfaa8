"""openchat-local: a private terminal chat app that learns, on the laptop alone.

The repository's root is this package: `app/`, `finetune/` and `models/` install as
`openchat_local.app` and so on (see `[tool.setuptools]` in pyproject.toml), so that the
wheel never puts a bare `app` or `models` into somebody's site-packages.
"""

__version__ = "0.1.0"
