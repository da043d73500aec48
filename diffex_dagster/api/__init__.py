"""`explain(...)` and `explain_image(...)`: the whole method as one function, without a study file and Dagster."""

from __future__ import annotations

from diffex_dagster.api.explaining import explain, explain_image
from diffex_dagster.api.explanation import Explanation, ImageExplanation

__all__ = ["Explanation", "ImageExplanation", "explain", "explain_image"]
