"""`python -m openchat_local` is `openchat-local`."""

from __future__ import annotations

import sys

from openchat_local.app.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
