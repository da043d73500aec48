"""DiffEx as Dagster assets: which visual attributes does an image classifier rely on, how much, and how sure are we?

The names below are the public ones; documentation and users import from here only. Each is loaded on first use, so that
`import diffex_dagster` loads neither Dagster nor torch nor DuckDB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diffex_dagster.version import __version__

__all__ = [
    "Application",
    "Classifier",
    "ClassifierError",
    "ClassifierResource",
    "Concept",
    "Corpus",
    "CorpusError",
    "DiffExError",
    "EditRequest",
    "Editor",
    "EditorError",
    "EditorResource",
    "Explanation",
    "Feature",
    "ImageExplanation",
    "OpenAIProposer",
    "OpenAIVLM",
    "ProposalRequest",
    "ResultsResource",
    "StoreError",
    "Study",
    "StudyComponent",
    "StudyError",
    "VLMResource",
    "__version__",
    "apply_to",
    "build_study",
    "explain",
    "explain_image",
    "load_study",
]

if TYPE_CHECKING:
    from diffex_dagster.api import Application, Explanation, ImageExplanation, apply_to, explain, explain_image
    from diffex_dagster.assets.build import build_study
    from diffex_dagster.classifying.protocol import Classifier
    from diffex_dagster.component import StudyComponent
    from diffex_dagster.corpus.tree import Corpus, Feature
    from diffex_dagster.corpus.vlm.prompts import ProposalRequest
    from diffex_dagster.corpus.vlm.proposer import OpenAIProposer, OpenAIVLM
    from diffex_dagster.editing.protocol import Concept, Editor, EditRequest
    from diffex_dagster.errors import (
        ClassifierError,
        CorpusError,
        DiffExError,
        EditorError,
        StoreError,
        StudyError,
    )
    from diffex_dagster.resources import ClassifierResource, EditorResource, ResultsResource, VLMResource
    from diffex_dagster.study import Study, load_study

_HOMES = {
    "apply_to": "api.applying",
    "Application": "api.applying",
    "explain": "api.explaining",
    "Explanation": "api.explanation",
    "explain_image": "api.explaining",
    "ImageExplanation": "api.explanation",
    "build_study": "assets.build",
    "StudyComponent": "component",
    "Classifier": "classifying.protocol",
    "Corpus": "corpus.tree",
    "Feature": "corpus.tree",
    "OpenAIProposer": "corpus.vlm.proposer",
    "OpenAIVLM": "corpus.vlm.proposer",
    "ProposalRequest": "corpus.vlm.prompts",
    "Concept": "editing.protocol",
    "Editor": "editing.protocol",
    "EditRequest": "editing.protocol",
    "Study": "study",
    "load_study": "study",
    **dict.fromkeys(("ClassifierResource", "EditorResource", "ResultsResource", "VLMResource"), "resources"),
    **dict.fromkeys(
        ("ClassifierError", "CorpusError", "DiffExError", "EditorError", "StoreError", "StudyError"), "errors"
    ),
}


def __getattr__(name: str) -> Any:
    """Load a public name from the module it is defined in."""
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"diffex_dagster.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
