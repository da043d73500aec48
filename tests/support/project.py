"""Where the project is, and how a test runs its command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
AVATARS = ROOT / "studies" / "avatars"  # the demo study
Run = Callable[..., tuple[int, str, str]]  # `diffex` with these arguments: exit status, standard output, standard error
