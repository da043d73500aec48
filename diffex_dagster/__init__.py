"""DiffEx as Dagster assets: which visual attributes does an image classifier rely on, how much, and how sure are we?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Explanation", "StudyComponent", "__version__", "explain"]

if TYPE_CHECKING:
    from diffex_dagster.api import Explanation, explain
    from diffex_dagster.component import StudyComponent

_HOMES = {"explain": "api", "Explanation": "api", "StudyComponent": "component"}


def __getattr__(name: str) -> Any:
    """Imported on first use: `import diffex_dagster` loads neither Dagster nor torch."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"diffex_dagster.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
