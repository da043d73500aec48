"""The kinds of judges that a study file can name: each import below is one.

A new kind is one file, with what the study file says of it (a `ProbePart` with its own `kind` and `build`) and the
judge that this makes, and one line here. The modules are read with every study file: they load no model library before
a judge is asked. What a judge is made with and is not yet in `judging.parts.Where` is one field there, filled where a
study's judge is made (`stages.setup.judge_where`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffex_dagster.judging.clip import ClipProbePart as ClipProbePart
from diffex_dagster.judging.diffusion import DiffusionProbePart as DiffusionProbePart
from diffex_dagster.judging.none import NoProbePart as NoProbePart
from diffex_dagster.judging.parts import ProbePart
from diffex_dagster.judging.vlm import VlmProbePart as VlmProbePart
from diffex_dagster.utils.config import kinds_in, one_of

KINDS = kinds_in(globals(), ProbePart)

if TYPE_CHECKING:
    AnyProbePart = ProbePart
else:
    AnyProbePart = one_of(KINDS)
"""What a study file says about a judge of any kind, validated without loading a model."""
