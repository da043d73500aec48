"""Every default of a study that decides what a stage makes. `python -m tests.support.defaults` writes them anew.

A version leaves out what is as its default (`stages.settings`). So a default that changes makes another result under
the version of before, unless the stages that it decides are raised in `REVISIONS`, or the field is in `_IN_FULL`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from diffex_dagster.stages.settings import DECIDES, REVISIONS, Stage, _models_in
from diffex_dagster.study import Study
from tests.support.project import ROOT

FILE = ROOT / "tests" / "stages" / "defaults.txt"


def described() -> str:
    """A line a revised stage, and a line a field: its path, its default, and the stages that it decides.

    Not the options of editors: those are in their fingerprints, defaults and all.
    """
    lines = [f"{stage}: {json.dumps(revision)}" for stage, revision in sorted(REVISIONS.items())]
    for path, info in every(Study):
        if (stages := decided(path)) and not path.startswith("editors."):
            lines.append(f"{path} = {default(info)}  ({', '.join(stages)})")
    return "\n".join(lines) + "\n"


def every(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field by its path, to the deepest; a part of several kinds has its kind's name, as in `DECIDES`."""
    for name, info in model.model_fields.items():
        path = f"{prefix}{name}"
        kinds = list(_models_in(info.annotation))
        whole = info.get_default(call_default_factory=True)
        if len(kinds) != 1 or not isinstance(whole, BaseModel):
            yield path, info
        for kind in kinds:
            of_kind = f".{kind.model_fields['kind'].default}" if len(kinds) > 1 else ""
            yield from every(kind, f"{path}{of_kind}.")


def decided(path: str) -> tuple[Stage, ...]:
    """The stages that a field decides, by itself or as a part of one that does."""
    names = path.split(".")
    return next((DECIDES[p] for n in range(len(names), 0, -1) if (p := ".".join(names[:n])) in DECIDES), ())


def default(info: FieldInfo) -> str:
    if info.is_required():
        return "(required)"
    return json.dumps(_plain(info.get_default(call_default_factory=True)), ensure_ascii=False, default=str)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", include={"kind"}) if isinstance(value, BaseModel) else value


if __name__ == "__main__":
    FILE.write_text(described(), "utf-8")
    print(FILE)
