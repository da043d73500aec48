"""The kinds of judges that a study file can name: each import below is one.

A new kind is one file, with what the study file says of it (a `JudgePart` with its own `kind` and `build`) and the
judge that this makes, and one line here. The modules are read with every study file: they load no model library before
a judge is asked. What a judge is made with and is not yet in `judging.parts.Where` is one field there, filled where a
study's judge is made (`study.building.judge_where`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffex_dagster.judging.clip import ClipJudgePart as ClipJudgePart
from diffex_dagster.judging.diffusion import DiffusionJudgePart as DiffusionJudgePart
from diffex_dagster.judging.none import NoJudgePart as NoJudgePart
from diffex_dagster.judging.parts import JudgePart
from diffex_dagster.judging.vlm import VlmJudgePart as VlmJudgePart
from diffex_dagster.utils.config import kinds_in, one_of

KINDS = kinds_in(globals(), JudgePart)

if TYPE_CHECKING:
    AnyJudgePart = JudgePart
else:
    AnyJudgePart = one_of(KINDS)
"""What a study file says about a judge of any kind, validated without loading a model."""
