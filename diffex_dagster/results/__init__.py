"""What reports and comparisons show, as plain data: the stages fill it in, the renderers and the store read it.

Each class is the one definition of its rows: their JSON, its Schema and their columns in every table follow from the
fields (`utils.columns`).
"""

from __future__ import annotations

from diffex_dagster.results.common import Confounder, Example, ImageRow, Picture, Turn, opened
from diffex_dagster.results.comparison import ComparedFeature, Comparison, RuleOutcome
from diffex_dagster.results.completeness import Completeness, Unexplained
from diffex_dagster.results.editors import AgreedFeature, EditorComparison, UnderEditor
from diffex_dagster.results.report import (
    Attribution,
    AttributionExample,
    Control,
    Group,
    JointCombination,
    JudgeCheck,
    RankedFeature,
    Report,
    Shots,
)

__all__ = [
    "AgreedFeature",
    "Attribution",
    "AttributionExample",
    "ComparedFeature",
    "Comparison",
    "Completeness",
    "Confounder",
    "Control",
    "EditorComparison",
    "Example",
    "Group",
    "ImageRow",
    "JointCombination",
    "JudgeCheck",
    "Picture",
    "RankedFeature",
    "Report",
    "RuleOutcome",
    "Shots",
    "Turn",
    "UnderEditor",
    "Unexplained",
    "opened",
]
