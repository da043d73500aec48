"""Checkpoints of the Hugging Face hub: what is one, and what of it is on this machine already."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path


def is_hub_id(resolve: Callable[[str], str], name: str) -> bool:
    """Whether a checkpoint is one of the hub's, and no folder.

    Args:
        resolve: makes a folder's name absolute, and leaves a hub id as it is (`Study.checkpoint`).
        name: as the study file has it.
    """
    return resolve(name) == name and bool(re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name))


def hub_is_off() -> bool:
    """Whether nothing may be downloaded."""
    return os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0")


def on_this_machine(name: str, file: str) -> bool:
    """Whether a file of a hub checkpoint has been downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, file), str)


def cached_folder(name: str) -> Path | None:
    """Where a hub checkpoint lies that has been downloaded before."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None
