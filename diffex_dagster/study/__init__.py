"""Study: what a user writes in YAML, validated, with errors that say what to do.

Paths in a study file are relative to the file. Everything here can be read without loading a model.
"""

from __future__ import annotations

from diffex_dagster.images.section import Images, Predicted
from diffex_dagster.study.loading import find_study, load_study, study_of
from diffex_dagster.study.rules import BY_CLASSIFIER
from diffex_dagster.study.sections import CalibrationPart, CorpusPart, EffectsPart, ReportPart, RulePart, SearchPart
from diffex_dagster.study.study import Study
from diffex_dagster.utils.names import Name, Text

__all__ = [
    "BY_CLASSIFIER", "CalibrationPart", "CorpusPart", "EffectsPart", "Images", "Name", "Predicted",
    "ReportPart", "RulePart", "SearchPart", "Study", "Text", "find_study", "load_study", "study_of",
]  # fmt: skip
