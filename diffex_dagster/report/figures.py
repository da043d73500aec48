"""The ranking as a figure for a paper: bars with 95% intervals, SVG (text stays text) and PNG at 300 dpi."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from diffex_dagster.report.wording import curly, plain, titled
from diffex_dagster.results import Control, RankedFeature

# Blue and orange of the Okabe-Ito palette: told apart by every kind of colour vision, and in grey by their lightness.
COLOURS = {"raises": "#d55e00", "lowers": "#0072b2", "mixed": "#9a6fb0"}
_QUIET = "#b9bbbf"


def ranked_bars(features: Sequence[RankedFeature], target: str, noise_floor: float = 0.0,
                limit: int = 25, controls: Sequence[Control] = ()) -> dict[str, bytes]:  # fmt: skip
    """Draw the strongest features, strongest on top, and below them the control prompts, all against the null edits.

    Returns:
        The figure as `{"svg": ..., "png": ...}`, the same bytes for the same input.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    top = list(features[:limit])
    style: dict[Any, Any] = {
        "font.size": 8,
        "font.family": "sans-serif",
        "svg.fonttype": "none",
        "svg.hashsalt": "diffex",  # ids in the SVG would differ from run to run
        "text.parse_math": False,  # a "$" in a name is a dollar sign
        "axes.unicode_minus": True,
    }
    with rc_context(style):
        # No pyplot: it keeps global state and picks a window system.
        figure = Figure(figsize=(5.2, 0.9 + 0.24 * max(1, len(top) + len(controls))), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        if noise_floor > 0:
            axes.axvspan(-noise_floor, noise_floor, color="#000000", alpha=0.06, linewidth=0, label="noise floor")
        for y, f in enumerate(top):
            hatch = "////" if f.confounded_with else None
            colour = COLOURS.get(f.decision, _QUIET)
            axes.barh(y, f.effect, height=0.62, color=colour, hatch=hatch, edgecolor="#ffffff", linewidth=0, zorder=2)
            axes.plot([f.ci_low, f.ci_high], [y, y], color="#1b1d21", linewidth=0.9, zorder=3)
        for y, control in enumerate(controls, len(top)):
            axes.barh(y, control.against_null, height=0.62, color=_QUIET, linewidth=0, zorder=2)
            axes.plot([control.null_low, control.null_high], [y, y], color="#1b1d21", linewidth=0.9, zorder=3)
        axes.axvline(0, color="#1b1d21", linewidth=0.8, zorder=1)
        labels = [*(_label(f) for f in top), *(f"control: “{plain(c.prompt, 28)}”" for c in controls)]
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.4, -0.6)
        marked = any(f.confounded_with for f in top)
        hatched = "\nhatched: confounded with another feature, or not told from it" if marked else ""
        axes.set_xlabel(f"effect on the {curly(target)}, with 95% interval{hatched}")
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="#000000", alpha=0.08, linewidth=0.6, zorder=0)
        axes.set_axisbelow(True)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # it keeps its places: laying out takes as long as drawing
        figure.savefig(png, format="png", dpi=300, metadata={"Software": None})
    return {"svg": svg.getvalue(), "png": png.getvalue()}


def _label(feature: RankedFeature) -> str:
    return titled(feature, 36)
