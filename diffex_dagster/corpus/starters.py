"""Starter corpora for the paper's domains, for a user without a vision-language model."""

from __future__ import annotations

import difflib
from importlib.resources import files

from diffex_dagster.corpus.overrides_file import overrides_from_text
from diffex_dagster.corpus.tree import Corpus, slug
from diffex_dagster.errors import CorpusError

_ALIASES = {
    "leaf": "leaf-health", "plant": "leaf-health", "plants": "leaf-health", "leaves": "leaf-health",
    "plant-village": "leaf-health", "fundus": "retina", "eye": "retina", "portrait": "face", "avatar": "face",
    "dog": "pet", "cat": "pet", "big-cat": "wildcat", "dish": "food", "clothing": "fashion", "building": "architecture",
}  # fmt: skip


def starter_names() -> list[str]:
    """The starters there are: `face`, `bird`, `leaf-health`, ..."""
    folder = files(__package__) / "starters"
    return sorted(one.name.removesuffix(".yaml") for one in folder.iterdir() if one.name.endswith(".yaml"))


def load_starter(name: str) -> Corpus:
    """A starter corpus by name; see `starter_called` for the names.

    Raises:
        CorpusError: there is no such starter.
    """
    found = starter_called(name)
    text = (files(__package__) / "starters" / f"{found}.yaml").read_text("utf-8")
    tree = overrides_from_text(text, f"starters/{found}.yaml", source="starter").tree
    if tree is None:
        raise CorpusError(f"starters/{found}.yaml has no `tree`: reinstall the package.")
    return tree


def starter_called(name: str) -> str:
    """The starter that a name means; plurals and a few other names ("birds", "leaf", "fundus") are understood.

    Raises:
        CorpusError: there is no such starter.
    """
    known = starter_names()
    wanted = slug(name)
    for candidate in (wanted, wanted.removesuffix("s"), _ALIASES.get(wanted), _ALIASES.get(wanted.removesuffix("s"))):
        if candidate in known:
            return candidate
    close = difflib.get_close_matches(wanted, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known)}."
    raise CorpusError(f"There is no starter corpus {name!r}: {hint}")
