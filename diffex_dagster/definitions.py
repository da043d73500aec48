"""The code location: every `studies/*/study.yaml` becomes assets, checks, a job and a sensor."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from diffex_dagster.assets.build import build_study
from diffex_dagster.study import load_study


def studies_root() -> Path:
    """Where `studies/` is: DIFFEX_ROOT, else the working directory, else this checkout."""
    if root := os.environ.get("DIFFEX_ROOT"):
        return Path(root)
    here = Path.cwd()
    return here if (here / "studies").is_dir() else Path(__file__).parent.parent


@dg.definitions
def defs() -> dg.Definitions:
    """All studies, and one process for a run, so that a model is loaded once."""
    studies = [load_study(file) for file in sorted(studies_root().glob("studies/*/study.yaml"))]
    return dg.Definitions.merge(
        *(build_study(study) for study in studies), dg.Definitions(executor=dg.in_process_executor)
    )
