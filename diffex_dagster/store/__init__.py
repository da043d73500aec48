"""Results that outlive a run: one DuckDB file beside a folder of content-addressed pictures.

The database is loaded when it is first asked for: a content key (`store.keys`) needs none.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffex_dagster.store.files import InOrder, StoredPicture, StoredPictures
    from diffex_dagster.store.keys import edit_key, image_key
    from diffex_dagster.store.store import Store

__all__ = ["InOrder", "Store", "StoredPicture", "StoredPictures", "edit_key", "image_key"]

_HOMES = {
    "InOrder": "files", "Store": "store", "StoredPicture": "files", "StoredPictures": "files", "edit_key": "keys",
    "image_key": "keys",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
