"""Study: what a user writes in YAML, validated, with errors that say what to do.

Paths in a study file are relative to the file. Everything here can be read without loading a model.
"""

from __future__ import annotations

from diffex_dagster.study.images import IMAGE_SOURCES, Images, Predicted
from diffex_dagster.study.loading import find_study, load_study, study_of
from diffex_dagster.study.names import Name, Text
from diffex_dagster.study.rules import BY_CLASSIFIER
from diffex_dagster.study.sections import CalibrationPart, CorpusPart, EffectsPart, ReportPart, RulePart, SearchPart
from diffex_dagster.study.study import Study

__all__ = [
    "BY_CLASSIFIER", "IMAGE_SOURCES", "CalibrationPart", "CorpusPart", "EffectsPart", "Images", "Name", "Predicted",
    "ReportPart", "RulePart", "SearchPart", "Study", "Text", "find_study", "load_study", "study_of",
]  # fmt: skip
