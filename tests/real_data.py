"""Where real data lies: $TACIT_DATA, or ../shared/data beside the repository. Tests that read it skip without it."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(os.environ.get("TACIT_DATA") or Path(__file__).parents[2] / "shared" / "data")
