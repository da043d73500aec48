"""The code location: every `studies/*/study.yaml` becomes assets, checks, a job and a sensor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import dagster as dg

from diffex_dagster.assets.broken import broken_study
from diffex_dagster.assets.editors import build_under_editors
from diffex_dagster.errors import StudyError
from diffex_dagster.resources import Place, resources_of
from diffex_dagster.study import load_study
from diffex_dagster.utils.paths import studies_root
from diffex_dagster.utils.secrets import logger

log = logger(__name__)


@dg.definitions
def defs() -> dg.Definitions:
    """All studies of `studies_root()`."""
    return build_studies(studies_root())


def build_studies(root: Path, resources: Mapping[str, Place] | None = None) -> dg.Definitions:
    """All studies under `root/studies`, and one process for a run, so that a model is loaded once.

    A study that cannot be built, or has the name of an earlier one, stops none of the others: it is one asset that says
    what is wrong.

    Args:
        resources: where the studies are worked on; see `build_study`. As the environment says, where they are left out.
    """
    resources = resources_of() if resources is None else resources
    files: dict[str, Path] = {}
    built = []
    for file in sorted(root.glob("studies/*/study.yaml")):
        try:
            study = load_study(file)
            if first := files.get(study.prefix.lower()):
                raise StudyError(f"{file}: name: {first} is called {study.name!r} too; give one of them another name")
            definitions = build_under_editors(study, resources=resources)
            files[study.prefix.lower()] = file
        except Exception as error:  # whatever one study does, the others are there
            log.warning("%s", error)
            definitions = broken_study(file, error)
        built.append(definitions)
    return dg.Definitions.merge(*built, dg.Definitions(executor=dg.in_process_executor))
