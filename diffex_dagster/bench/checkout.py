"""The commit that this code is at, and whether a commit is one that others can find."""

from __future__ import annotations

import subprocess
from pathlib import Path

HERE = Path(__file__).parent


def commit() -> str | None:
    """The commit that this code is at, short; with a + where its files differ. None outside a git checkout."""
    try:
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "..")
        return _git("rev-parse", "--short=7", "HEAD").strip() + ("+" if changed.strip() else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def in_history(of: str) -> bool | None:
    """Whether a commit is this checkout's own, or one before it; None outside a git checkout.

    Args:
        of: a commit, short or in full; not the name of a branch or a tag, which may come to mean another.
    """
    try:
        _git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None
    try:
        if not _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{of}^{{commit}}").startswith(of):
            return False
        _git("merge-base", "--is-ancestor", of, "HEAD")
    except subprocess.CalledProcessError:
        return False
    return True


def _git(*asked: str) -> str:
    """What git says of this checkout.

    Raises:
        OSError: there is no git.
        CalledProcessError: it refuses.
    """
    command = ["git", "-C", str(HERE), *asked]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout  # noqa: S603
