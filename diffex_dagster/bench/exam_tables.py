"""The figures of an exam as the tables of docs/validity.md.

`python -m diffex_dagster.bench.exam_tables FILE` takes what `diffex bench truth --exam --json FILE` wrote. It keeps
what is published of it as `docs/figures/exam.json` and writes the page's tables from that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffex_dagster.bench.pages import write_between

Figures = Mapping[str, Any]
DOCS = Path(__file__).parents[2] / "docs"
MARK = "exam"
DIGITS = 4  # of a published figure
AIMS = {"spearman_whole": 0.85, "precision_at_5": 0.85, "coverage": 0.93, "fdr": 0.05}
AIMS |= {"control_claims": 0.05, "decoy_claims": 0.05}
SMALLER = ("fdr", "control_claims", "decoy_claims")  # what an aim bounds from above
PER_CENT = ("sign_accuracy", "coverage", "fdr", "control_claims", "decoy_claims")
ROWS = {
    "spearman_whole": "ρ, every feature of the corpus (0 where none is reported)",
    "spearman": "ρ, reported features with a true effect above 0.02",
    "precision_at_5": "precision@5",
    "sign_accuracy": "right signs",
    "effect_mae": "mean error of an effect",
    "both_mae": "mean error of do(1) − do(0)",
    "prevalence_mae": "mean error of a prevalence",
    "coverage": "intervals that hold the population's effect",
    "fdr": "false among the claims",
    "control_claims": "control prompts claimed",
    "decoy_claims": "decoys claimed",
    "beam_recall": "beam recall",
    "corpus_recall": "corpus recall",
}
# With exact edits an estimate and its truth are one drawing: how well they agree says nothing.
EXACT = ("coverage", "fdr", "control_claims", "decoy_claims", "beam_recall", "corpus_recall", "prevalence_mae")
BESIDE = ("spearman_whole", "spearman", "precision_at_5", "sign_accuracy", "effect_mae", "fdr", "beam_recall")
SHORT = ("ρ, every feature", "ρ, reported", "P@5", "signs", "error", "false claims", "beam")


def published(whole: Figures) -> dict[str, Any]:
    """What is kept of an exam's figures: means, intervals and each classifier's marks, not the points of the figure."""
    return {
        "proposals": {
            name: {key: value for key, value in found.items() if key != "arms"}
            | {"arms": {arm: _arm(figures) for arm, figures in found["arms"].items()}}
            for name, found in whole["proposals"].items()
        },
        "classifiers": len(whole["classifiers"]),
    }


def _arm(figures: Figures) -> dict[str, Any]:
    return {
        "mean": _rounded(figures["mean"]),
        "interval": _rounded(figures["interval"]),
        "missed": figures["missed"],
        "baselines": {
            title: {"mean": _rounded(each["mean"]), "interval": _rounded(each["interval"])}
            | ({"classifiers": len(each["classifiers"]), "ours": _rounded(each["ours"])} if "ours" in each else {})
            for title, each in figures["baselines"].items()
        },
        "classifiers": {
            name: _rounded({key: row[key] for key in ROWS}) for name, row in figures["classifiers"].items()
        },
    }


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def as_markdown(figures: Figures) -> str:
    """The tables of an exam: a column a proposal, then its baselines, then the exact arm.

    Args:
        figures: as `published` gives them.
    """
    found = figures["proposals"]
    first = next(iter(found.values()))
    parts = [
        f"{figures['classifiers']} classifiers, {first['images']} images, a population of {first['population']} "
        "drawings. Each cell is a mean over the classifiers with its 95% interval (classifiers resampled)."
    ]
    arms = [arm for arm in ("diffusion", "exact") if all(arm in each["arms"] for each in found.values())]
    for arm in arms:
        keys = [key for key in ROWS if arm == "diffusion" or key in EXACT]
        parts += [f"**{arm.capitalize()} editor**", _marks({n: each["arms"][arm] for n, each in found.items()}, keys)]
        if arm == "diffusion":
            for name, each in found.items():
                parts += [
                    f"Other readings of the same edits, proposal *{_words(name)}*:",
                    _baselines(each["arms"][arm]),
                ]
                parts += [f"Missed true effects: {_missed(each['arms'][arm])}."]
    return "\n\n".join(parts) + "\n"


def verdicts(figures: Figures) -> dict[str, dict[str, bool]]:
    """Proposal -> mark with an aim -> whether the diffusion arm's mean meets it; without marks that judge nothing."""
    found = {}
    for name, each in figures["proposals"].items():
        mean = each["arms"].get("diffusion", {"mean": dict.fromkeys(AIMS)})["mean"]
        found[name] = {
            key: mean[key] <= aim if key in SMALLER else mean[key] >= aim
            for key, aim in AIMS.items()
            if mean[key] is not None
        }
    return found


def missed_aims(figures: Figures) -> str:
    """Which aims the diffusion arm misses under which proposal, and by how much; a line each."""
    lines = []
    for name, met in verdicts(figures).items():
        mean = figures["proposals"][name]["arms"].get("diffusion", {"mean": {}})["mean"]
        missed = [key for key, reached in met.items() if not reached]
        lines += [f"{_words(name)}: {ROWS[key]} is {_number(key, mean[key])}, the aim {_aim(key)}" for key in missed]
        if met and not missed:
            lines.append(f"{_words(name)}: every aim is met")
    return "\n".join(lines)


def _marks(arms: Mapping[str, Figures], keys: Sequence[str]) -> str:
    head = ["", *map(_words, arms), "aim"]
    rows = [[ROWS[key], *(_cell(key, each) for each in arms.values()), _aim(key)] for key in keys]
    return _table(head, rows)


def _baselines(arm: Figures) -> str:
    rows = [["this project", *(_cell(key, arm) for key in BESIDE)]]
    for title, each in arm["baselines"].items():
        some = f" ({each['classifiers']} classifiers)" if "ours" in each else ""
        rows.append([title + some, *(_cell(key, each) for key in BESIDE)])
        if some:
            rows.append([f"this project on the same{some}", *(_cell(key, each["ours"]) for key in BESIDE)])
    return _table(["", *SHORT], rows)


def _missed(arm: Figures) -> str:
    causes = sorted(arm["missed"].items(), key=lambda item: -item[1])
    return ", ".join(f"{why} {count}" for why, count in causes) or "none"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cell(key: str, figures: Figures) -> str:
    value, bounds = figures["mean"][key], figures["interval"][key]
    if value is None:
        return "–"
    return _number(key, value) + (f" ({_number(key, bounds[0])} to {_number(key, bounds[1])})" if bounds else "")


def _number(key: str, value: float) -> str:
    if key in PER_CENT:
        return f"{100 * value:.1f}%"
    return f"{value:.3f}" if key.endswith("_mae") else f"{value:.2f}"


def _aim(key: str) -> str:
    if key not in AIMS:
        return ""
    return f"{'≤' if key in SMALLER else '≥'} {_number(key, AIMS[key]).replace('.0%', '%')}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish an exam."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("file", type=Path, help="what `diffex bench truth --exam --json FILE` wrote")
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args(arguments)
    figures = published(json.loads(options.file.read_text("utf-8")))
    kept = options.docs / "figures" / "exam.json"
    kept.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    write_between(options.docs / "validity.md", MARK, as_markdown(figures))
    print(missed_aims(figures))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
