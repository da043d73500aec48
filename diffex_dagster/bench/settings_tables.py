"""The same classifiers explained with settings of several people, as the table of docs/validity.md.

Tuned are the demo study's: options of its editor, its beam, its share of successful edits. All others leave search and
effects at their defaults, and have the editor options of the one that is named.

`python -m diffex_dagster.bench.settings_tables FILE...` takes what `diffex bench truth --settings NAME --json FILE`
wrote, one file for each of the settings. It keeps what is published of them in `docs/figures/settings.json`, where a
file takes the place of an earlier one of the same settings and as many images, writes the page's table from that, with
the aims that the default settings meet and miss. With `--world NAME` it does so for another world than the avatars:
`docs/figures/settings_NAME.json`, and docs/worlds.md. A file of another world is refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diffex_dagster.bench.exam_tables import AVATARS, DOCS, places, written_of
from diffex_dagster.bench.pages import claims_of, commit_of, missed_effects, of_claims, publish_runs, rounded, table
from diffex_dagster.bench.truth_tables import FEWEST, intervals
from diffex_dagster.errors import DiffExError

Figures = Mapping[str, Any]
PLACE = "settings"  # the marks of the page that the table stands between
TUNED = "tuned"
WORDS = {
    TUNED: "tuned by hand (the demo study)",
    "default": "default",
    "no_vocabulary": "no vocabulary",
    "diffusers": "diffusers' defaults",
    "authors": "the authors' defaults",
}
MARKS = {  # mark -> its column
    "spearman": "ρ",
    "spearman_whole": "ρ, every feature",
    "precision_at_5": "P@5",
    "sign_accuracy": "signs",
    "effect_mae": "error",
    "coverage": "coverage",
    "fdr": "false claims",
    "control_claims": "control claims",
    "prevalence_mae": "error of a prevalence",
    "had_seen": "there, seen",
    "had_imagined": "not there, seen",
    "edit_success": "edits that show",
    "edits_failed": "edit failed",
}
PER_CENT = (
    "sign_accuracy", "coverage", "fdr", "control_claims", "had_seen", "had_imagined", "edit_success", "edits_failed",
)  # fmt: skip
OF_POINTS = ("edit_success", "edits_failed")  # read from the features, not marks of the benchmark
NEAR = 0.05  # how much less than the tuned study's ρ and precision@5 the default's may be
AT_MOST = {"fdr": 0.05, "control_claims": 0.05}
AT_LEAST = {"sign_accuracy": 0.95}
UNTUNED = {"spearman": 0.8, "precision_at_5": 0.8}  # at least, in a world whose study nobody tuned


def published(whole: Figures, settings: str | None = None, commit: str | None = None) -> dict[str, Any]:
    """What is kept of one benchmark: its marks a classifier, their means, and why effects were missed.

    Args:
        whole: what `diffex bench truth --settings` wrote, with a diffusion arm.
        settings: whose they are, where the file does not say.
        commit: that it ran at, where the file does not say.

    Raises:
        DiffExError: it does not say whose settings, holds no diffusion arm, or as `commit_of`.
    """
    name = whole.get("settings") or settings
    if name not in WORDS:
        raise DiffExError(
            f"{name!r} are no settings of `diffex bench truth`: {', '.join(WORDS)}; name the file after them"
        )
    if "diffusion" not in whole.get("arms", {}):
        raise DiffExError(f"the file of the settings {name} holds no diffusion arm, which alone depends on them")
    arm = whole["arms"]["diffusion"]
    own = [key for key in MARKS if key not in OF_POINTS]
    rows = {
        subject: {key: row[key] for key in own}
        | _of_points(arm["points"].get(subject, ()))
        | {"reported": len(arm["points"].get(subject, ()))}
        for subject, row in arm["classifiers"].items()
    }
    return {
        "settings": name,
        "commit": commit_of(whole, commit),
        "images": whole["images"],
        "population": whole["population"],
        "features": whole["features"],
        "mean": rounded({key: _mean(row[key] for row in rows.values()) for key in MARKS}),
        "missed": arm["missed"],
        **claims_of(arm),
        "population_error": _most(row["population_error"] for row in arm["classifiers"].values()),
        "classifiers": rounded(rows),
    }


def _of_points(points: Iterable[Figures]) -> dict[str, float | None]:
    """Of a classifier's report: the mean share of edits that show their feature, and the share of *edit failed*."""
    found = list(points)
    said = [point["edit_success"] for point in found if point.get("edit_success") is not None]
    failed = [point["decision"] == "edit failed" for point in found]
    return {"edit_success": _mean(said), "edits_failed": _mean(failed)}


def _mean(values: Iterable[float | None]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(np.mean(known)) if known else None


def with_runs(kept: Sequence[Figures], new: Iterable[Figures]) -> list[Figures]:
    """The runs, one for each of the settings and number of images, in the order of the table.

    A new one replaces its predecessor.
    """
    of = {(run["settings"], run["images"]): run for run in (*kept, *new)}
    return [of[key] for name in WORDS for key in sorted(of) if key[0] == name]


def alike(runs: Sequence[Figures]) -> bool:
    """Whether the runs can stand in one table: of the same classifiers and corpus."""
    facts = [(run["features"], sorted(run["classifiers"])) for run in runs]
    return all(each == facts[0] for each in facts)


def as_markdown(runs: Sequence[Figures]) -> str:
    """The table, what it was measured on, why true effects were missed, and every classifier's ρ and precision.

    Args:
        runs: as `with_runs` gives them, at least one.

    Raises:
        DiffExError: there is no run, or they are of different classifiers or corpora.
    """
    if not runs:
        raise DiffExError("nothing is published yet: name a file of `diffex bench truth --settings NAME --json`")
    if not alike(runs):
        raise DiffExError(
            "the settings were measured on different classifiers or corpora, and cannot stand in one table: run them "
            "again alike"
        )
    counts = sorted({run["images"] for run in runs})
    titles = [WORDS[run["settings"]] + f", {run['images']} images" * (len(counts) > 1) for run in runs]
    first, subjects = runs[0], list(runs[0]["classifiers"])
    keys = [key for key in MARKS if any(run["mean"].get(key) is not None for run in runs)]
    rows = [
        [title, _reported(run), *(_cell(key, run) for key in keys), str(run["population"]), run["commit"]]
        for title, run in zip(titles, runs, strict=True)
    ]
    tuned = _tuned(runs)
    others = [
        (title, run)
        for title, run in zip(titles, runs, strict=True)
        if tuned and run is not tuned and run["images"] == tuned["images"]
    ]
    each = [
        [
            subject,
            *(_pair(run["classifiers"][subject]) for run in runs),
            *(_less(run["classifiers"][subject], tuned["classifiers"][subject]) for _, run in others if tuned),
        ]
        for subject in subjects
    ]
    aims = [f"- {'met' if met else 'missed'}: {words}." for words, met in verdicts(runs)]
    missed = [
        f"- {title}: {missed_effects(run['missed'])}{of_claims(run)}." for title, run in zip(titles, runs, strict=True)
    ]
    return "\n\n".join(
        [
            f"{len(subjects)} classifiers ({', '.join(subjects)}), {' or '.join(map(str, counts))} images, "
            f"{first['features']} features of the corpus. "
            f"Each cell is a mean over the classifiers {_brackets(len(subjects))} "
            "A mark is of the features that are reported, unless it says *every*. "
            f"Coverage and false claims are held against so many drawings of the population{_error(runs)}."
            + (" Rows of two commits also differ by what changed between these." if len(runs) > 1 else ""),
            table(["settings", "features reported", *(MARKS[key] for key in keys), "drawings", "commit"], rows),
            "ρ, and precision@5, of each classifier"
            + (", and how much more they are than under the tuned settings:" if others else ":"),
            table(
                ["", *titles, *(f"{title} less tuned" for title, _ in others)],
                each,
            ),
            *(["The aims of the default settings:\n\n" + "\n".join(aims)] if aims else []),
            "True effects above 0.02 that are not claimed:\n\n" + "\n".join(missed),
        ]
    ) + "\n"  # fmt: skip


def verdicts(runs: Sequence[Figures]) -> list[tuple[str, bool]]:
    """Each aim of the default settings in words, and whether it is met; none without them.

    Ranks are held against the tuned study's on as many images, or, where none was measured, those on the most images
    against `UNTUNED`.

    Args:
        runs: as `with_runs` gives them, those of the same settings by their images.
    """
    tuned_run = _tuned(runs)
    of = {run["settings"]: run["mean"] for run in runs if not tuned_run or run["images"] == tuned_run["images"]}
    found: list[tuple[str, bool]] = []
    if "default" not in of:
        return found
    mean = of["default"]
    for key, aim in UNTUNED.items():
        tuned = of.get(TUNED, {}).get(key)
        if TUNED not in of and mean[key] is not None:
            found.append((f"{MARKS[key]} {mean[key]:.2f}, ≥ {aim}", mean[key] >= aim))
        if tuned is not None and mean[key] is not None:
            words = f"{MARKS[key]} {mean[key]:.2f}, within {NEAR} of the tuned study's {tuned:.2f}"
            found.append((words, mean[key] >= tuned - NEAR))
    for aims, least in ((AT_LEAST, True), (AT_MOST, False)):
        for key, aim in aims.items():
            if mean[key] is not None:
                met = mean[key] >= aim if least else mean[key] <= aim
                found.append((f"{MARKS[key]} {_number(key, mean[key])}, {'≥' if least else '≤'} {aim:.0%}", met))
    return found


def _tuned(runs: Sequence[Figures]) -> Figures | None:
    """The tuned study's run on the most images, which others on as many are held against."""
    return next((run for run in reversed(runs) if run["settings"] == TUNED), None)


def _error(runs: Sequence[Figures]) -> str:
    """How far the populations' own true effects may be off; nothing of runs from before it was kept."""
    of: dict[int, float] = {}
    for run in runs:
        if run.get("population_error") is not None:
            of[run["population"]] = max(run["population_error"], of.get(run["population"], 0.0))
    errors = ", ".join(f"of {drawings} up to {error:.3f}" for drawings, error in sorted(of.items()))
    return f" (standard errors of their true effects: {errors})" if errors else ""


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _brackets(classifiers: int) -> str:
    """What stands beside a mean over so many classifiers."""
    if classifiers < FEWEST:
        return "with the least and the most of any in brackets; fewer than three give no interval."
    return "with its 95% interval in brackets (classifiers resampled); a mean over fewer than three of them has none."


def _cell(key: str, run: Figures) -> str:
    rows = list(run["classifiers"].values())
    known = [row[key] for row in rows if row.get(key) is not None]
    if not known:
        return "–"
    bounds = [min(known), max(known)] if len(rows) < FEWEST else intervals(rows, keys=(key,))[key]
    mean = _number(key, run["mean"][key])
    low, high = (_number(key, value) for value in bounds) if bounds else (mean, mean)
    return mean if low == high else f"{mean} ({low} to {high})"


def _reported(run: Figures) -> str:
    counts = [row["reported"] for row in run["classifiers"].values()]
    return " to ".join(map(str, sorted({min(counts), max(counts)})))


def _less(row: Figures, tuned: Figures) -> str:
    """ρ and precision@5, less those of the same classifier under the tuned settings."""
    pairs = [(row[key], tuned[key]) for key in ("spearman", "precision_at_5")]
    return ", ".join("–" if None in pair else f"{pair[0] - pair[1]:+.2f}".replace("-", "−") for pair in pairs)


def _pair(row: Figures) -> str:
    return ", ".join("–" if row[key] is None else f"{row[key]:.2f}" for key in ("spearman", "precision_at_5"))


def _number(key: str, value: float) -> str:
    if key in PER_CENT:
        return f"{100 * value:.0f}%"
    return f"{value:.3f}" if key.endswith("_mae") else f"{value:.2f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish what the settings of several people come to."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "files", type=Path, nargs="*", help="what `diffex bench truth --settings NAME --json FILE` wrote"
    )
    parser.add_argument("--commit", help="that they ran at, of files that do not say")
    parser.add_argument("--world", default=AVATARS, help="whose pictures were explained")
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args(arguments)
    written = written_of(options.files, options.world)
    new = [published(whole, file.stem, options.commit) for file, whole in written]
    kept, page, mark = places(options.docs, PLACE, options.world)
    runs = publish_runs(kept, page, mark, lambda known: with_runs(known, new), as_markdown)
    for words, met in verdicts(runs):
        print(f"{'met' if met else 'missed'}: {words}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
