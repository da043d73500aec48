"""The exact arm of the development classifiers as the table of docs/validity.md.

`python -m diffex_dagster.bench.development_tables FILE` takes what `diffex bench truth --arm exact --json FILE` wrote,
keeps what is published of it as `docs/figures/development.json` and writes the page's table from that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from diffex_dagster.bench.exam_tables import DOCS
from diffex_dagster.bench.pages import commit_of, missed_effects, publish, rounded, table

MARK = "development"
# With exact edits the rest are identities: estimate and truth are one drawing.
RATES = {
    "coverage": "intervals that hold",
    "fdr": "false among the claims",
    "any_false": "studies with a false claim",
    "any_wrong_way": "of no effect, or the wrong sign",
    "found": "true effects claimed",
}


def published(whole: Mapping[str, Any], commit: str | None = None) -> dict[str, Any]:
    """What is kept: each classifier's rates over resampled studies and its beam recall, their means, and the readings.

    Args:
        whole: what `diffex bench truth --arm exact --json` wrote.
        commit: that it ran at, where the file does not say.

    Raises:
        DiffExError: as `commit_of`.
    """
    arm = whole["arms"]["exact"]
    rows: dict[str, dict[str, float | None]] = {
        name: {key: rounded(row["resampled"][key]) for key in RATES} | {"beam_recall": rounded(row["beam_recall"])}
        for name, row in arm["classifiers"].items()
    }
    keys = (*RATES, "beam_recall")
    known = {key: [value for row in rows.values() if (value := row[key]) is not None] for key in keys}
    return {
        "commit": commit_of(whole, commit),
        "images": whole["images"],
        "population": whole["population"],
        "studies": next(iter(arm["classifiers"].values()))["resampled"]["studies"],
        "classifiers": rows,
        "mean": {key: rounded(fmean(of)) if of else None for key, of in known.items()},
        "missed": arm["missed"],
    }


def as_markdown(figures: Mapping[str, Any]) -> str:
    """A row a classifier, and their mean.

    Args:
        figures: as `published` gives them.
    """
    head = ["", *RATES.values(), "beam"]
    rows = [[name, *_cells(row)] for name, row in (*figures["classifiers"].items(), ("mean", figures["mean"]))]
    return (
        f"Commit {figures['commit']}; {figures['images']} images, {figures['studies']} resampled studies of "
        f"{figures['images']} of {figures['population']} drawings for each classifier.\n\n"
        f"{table(head, rows)}\n\n"
        "True effects above 0.02 that are not claimed, of the study's own images: "
        f"{missed_effects(figures['missed'])}.\n"
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    rates = ["–" if row[key] is None else f"{100 * row[key]:.1f}%" for key in RATES]
    return [*rates, "–" if row["beam_recall"] is None else f"{row['beam_recall']:.2f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish the exact arm of the development classifiers."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path, help="what `diffex bench truth --arm exact --json FILE` wrote")
    parser.add_argument("--commit", help="that it ran at, where the file does not say")
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args(arguments)
    figures = published(json.loads(options.file.read_text("utf-8")), options.commit)
    kept = options.docs / "figures" / "development.json"
    publish(kept, figures, options.docs / "validity.md", MARK, as_markdown(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
