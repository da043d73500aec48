"""`explain(...)`, `explain_image(...)` and `apply_to(...)`: the method as functions, without Dagster."""

from __future__ import annotations

from diffex_dagster.api.applying import Application, apply_to
from diffex_dagster.api.explaining import explain, explain_image
from diffex_dagster.api.explanation import Explanation, ImageExplanation

__all__ = ["Application", "Explanation", "ImageExplanation", "apply_to", "explain", "explain_image"]
