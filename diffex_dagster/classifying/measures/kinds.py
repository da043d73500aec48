"""The target measures that a study file can name: each import below is one.

A new measure is one file, with a `Measure` of its own `name`, and one line here. The modules are read with every study
file: they load neither torch nor SciPy before a score is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from diffex_dagster.classifying.measures.base import Measure
from diffex_dagster.classifying.measures.function import Function as Function
from diffex_dagster.classifying.measures.logits import Logit as Logit
from diffex_dagster.classifying.measures.logits import Margin as Margin
from diffex_dagster.classifying.measures.probability import Probability as Probability
from diffex_dagster.classifying.measures.probability import Sigmoid as Sigmoid
from diffex_dagster.classifying.measures.values import Expected as Expected
from diffex_dagster.classifying.measures.values import Value as Value
from diffex_dagster.utils.config import kinds_in

KINDS = kinds_in(globals(), Measure)
MEASURES: Mapping[str, Measure] = {kind.name: kind() for kind in KINDS}

if TYPE_CHECKING:
    MeasureName = str
else:
    MeasureName = Literal[tuple(MEASURES)]
"""What a study file calls them."""
