"""The figures of exams as the tables of docs/validity.md.

`python -m diffex_dagster.bench.exam_tables FILE...` takes what `diffex bench truth --exam --json FILE` wrote, one file
or several. It adds what is published of each proposal to `docs/figures/exam.json`, which keeps every exam, and writes
the page's tables from that: the last exam of each proposal, and the history of all. An exam of fewer classifiers than
an earlier one takes no column; it adds the readings that the other lacks. With `--world NAME` it does so for another
world than the avatars: `docs/figures/exam_NAME.json`, and docs/worlds.md. A file of another world is refused, and
nothing is written then.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffex_dagster.bench.pages import claims_of, commit_of, missed_effects, of_claims, publish_runs, rounded, table
from diffex_dagster.errors import DiffExError

Figures = Mapping[str, Any]
DOCS = Path(__file__).parents[2] / "docs"
MARK = "exam"
AVATARS = "avatars"  # whose exam stands on the page about validity
AIMS = {"spearman_whole": 0.85, "precision_at_5": 0.85, "coverage": 0.93, "fdr": 0.05}
AIMS |= {"control_claims": 0.05, "decoy_claims": 0.05}
SMALLER = ("fdr", "control_claims", "decoy_claims")  # what an aim bounds from above
PER_CENT = (
    "sign_accuracy", "coverage", "fdr", "fdr_unmarked", "true_marked", "control_claims", "decoy_claims", "had_seen",
    "had_imagined",
)  # fmt: skip
ROWS = {
    "spearman_whole": "ρ, every feature of the corpus (0 where none is reported)",
    "spearman": "ρ, reported features with a true effect above 0.02",
    "precision_at_5": "precision@5",
    "sign_accuracy": "right signs",
    "effect_mae": "mean error of an effect",
    "claim_mae": "mean error of a claimed effect",
    "claim_shown_mae": "the same, where the edit shows its attribute",
    "both_mae": "mean error of do(1) − do(0)",
    "prevalence_mae": "mean error of a prevalence",
    "had_seen": "attributes seen in images that show them already",
    "had_imagined": "attributes seen in images that do not",
    "coverage": "intervals that hold the population's effect",
    "fdr": "false among the claims",
    "fdr_unmarked": "false among the claims without a mark (*confounded with*, *cannot be told from*)",
    "true_marked": "true claims with such a mark",
    "control_claims": "control prompts claimed",
    "decoy_claims": "decoys claimed",
    "beam_recall": "beam recall",
    "corpus_recall": "corpus recall",
}
# With exact edits an estimate and its truth are one drawing: how well they agree says nothing. Ranks over the whole
# corpus say what the beam left out.
EXACT = (
    "spearman_whole", "coverage", "fdr", "control_claims", "decoy_claims", "beam_recall", "corpus_recall",
    "prevalence_mae",
)  # fmt: skip
ARMS = ("diffusion", "exact")
FACTS = {  # of a run
    "commit": "commit",
    "classifiers": "classifiers",
    "images": "images of a study",
    "population": "drawings of the population",
    "features": "features of the corpus",
}
PAST = {  # what the history shows of a run
    "spearman_whole": "ρ, every feature",
    "spearman": "ρ, reported",
    "precision_at_5": "P@5",
    "sign_accuracy": "signs",
    "coverage": "coverage",
    "fdr": "false claims",
    "beam_recall": "beam",
}
BESIDE = {  # what is shown of every reading of the same edits
    "spearman_whole": "ρ, every feature",
    "spearman": "ρ, reported",
    "precision_at_5": "P@5",
    "sign_accuracy": "signs",
    "effect_mae": "error",
    "both_mae": "error of do(1) − do(0)",
    "prevalence_mae": "error of a prevalence",
    "coverage": "coverage",
    "fdr": "false claims",
    "control_claims": "control prompts claimed",
    "decoy_claims": "decoys claimed",
    "beam_recall": "beam",
}


def published(whole: Figures, commit: str | None = None) -> list[dict[str, Any]]:
    """What is kept of an exam, a run a proposal: means, intervals and each classifier's marks, no points of the figure.

    Args:
        whole: what `diffex bench truth --exam --json` wrote.
        commit: that it ran at, where the file does not say.

    Raises:
        DiffExError: as `commit_of`.
    """
    ran_at = commit_of(whole, commit)
    return [
        {"commit": ran_at, "proposal": name, "classifiers": len(whole["classifiers"])}
        | {key: value for key, value in found.items() if key != "arms"}
        | {"arms": {arm: _arm(figures) for arm, figures in found["arms"].items()}}
        for name, found in whole["proposals"].items()
    ]


def written_of(files: Iterable[Path], world: str) -> list[tuple[Path, Figures]]:
    """Each file with what `diffex bench truth` wrote into it.

    Args:
        files: JSON.
        world: that all of them are of; a file that names none is of the avatars, as all were once.

    Raises:
        DiffExError: a file is of another world.
    """
    read: list[tuple[Path, Figures]] = [(file, json.loads(file.read_text("utf-8"))) for file in files]
    for file, whole in read:
        of_classifiers = (fact["world"] for fact in whole.get("classifiers", {}).values() if "world" in fact)
        if (found := whole.get("world") or next(of_classifiers, AVATARS)) != world:
            raise DiffExError(f"{file} is of the world {found!r}, not {world!r}: say --world {found}")
    return read


def places(docs: Path, name: str, world: str) -> tuple[Path, Path, str]:
    """Where the runs of one world are kept, which page shows them, and between which marks.

    Args:
        docs: the folder of the documentation.
        name: of the avatars' file and marks.
    """
    if world == AVATARS:
        return docs / "figures" / f"{name}.json", docs / "validity.md", name
    return docs / "figures" / f"{name}_{world}.json", docs / "worlds.md", f"{name} of {world}"


def with_runs(kept: Sequence[Figures], new: Iterable[Figures]) -> list[Figures]:
    """The history with runs added at its end; one that is in it already stays where it is, and gains what it lacks.

    Raises:
        DiffExError: a run has commit, proposal and number of classifiers of one in the history, and other figures.
    """
    history = list(kept)
    for run in new:
        same = [each for each in history if all(each[key] == run[key] for key in ("commit", "proposal", "classifiers"))]
        if not same:
            history.append(run)
        elif _says(run, same[0]):
            history[history.index(same[0])] = run
        else:
            raise DiffExError(
                f"{run['proposal']} at commit {run['commit']} is in the history with other figures: one commit has one "
                "exam of as many classifiers; find out which of the two is whole, and take the other out of the "
                "history by hand"
            )
    return history


def _says(run: Any, kept: Any) -> bool:
    """Whether a run says all that was kept of one; it may say more, where less was kept then."""
    if not isinstance(kept, Mapping):
        return bool(run == kept)
    return isinstance(run, Mapping) and all(key in run and _says(run[key], value) for key, value in kept.items())


def latest(history: Iterable[Figures], arm: str = "diffusion") -> dict[str, Figures]:
    """Proposal -> its last run in an arm, of those with most classifiers; in the order of the proposals' first runs."""
    found: dict[str, Figures] = {}
    for run in history:
        if arm not in run["arms"]:
            continue
        if run["proposal"] not in found or run["classifiers"] >= found[run["proposal"]]["classifiers"]:
            found[run["proposal"]] = run
    return found


def _shorter(history: Iterable[Figures], whole: Figures) -> list[Figures]:
    """The runs of the same proposal on fewer classifiers: readings that cost many edits are made for some only."""
    same = [run for run in history if run["proposal"] == whole["proposal"]]
    return [run for run in same if run["classifiers"] < whole["classifiers"]]


def _arm(figures: Figures) -> dict[str, Any]:
    return {
        "mean": rounded(figures["mean"]),
        "interval": rounded(figures["interval"]),
        "missed": figures["missed"],
        **claims_of(figures),
        "baselines": {
            title: {"mean": rounded(each["mean"]), "interval": rounded(each["interval"])}
            | ({"classifiers": len(each["classifiers"]), "ours": rounded(each["ours"])} if "ours" in each else {})
            for title, each in figures["baselines"].items()
        },
        "classifiers": {name: rounded({key: row[key] for key in ROWS}) for name, row in figures["classifiers"].items()},
    }


def as_markdown(history: Sequence[Figures]) -> str:
    """The tables of the exams: the last run of each proposal (a column each), their baselines, and the history.

    Args:
        history: the runs that are kept, the oldest first.
    """
    parts = ["Each cell is a mean over the classifiers with its 95% interval (classifiers resampled)."]
    for arm in ARMS:
        having = latest(history, arm)
        if not having:
            continue
        keys = [key for key in ROWS if arm == "diffusion" or key in EXACT]
        parts += [f"**{arm.capitalize()} editor**", _marks(having, arm, keys)]
        if arm == "diffusion":
            for name, run in having.items():
                beside = _baselines(run, _shorter(history, run))
                parts += [f"Other readings of the same edits, proposal *{_words(name)}*:", beside]
                missed = missed_effects(run["arms"][arm]["missed"])
                parts += [f"Missed true effects: {missed}{of_claims(run['arms'][arm])}."]
    return "\n\n".join([*parts, "**Every exam**, the oldest first", _history(history)]) + "\n"


def verdicts(history: Iterable[Figures]) -> dict[str, dict[str, bool]]:
    """Proposal -> mark with an aim -> whether its last run with the diffusion editor meets it."""
    found = {}
    for name, run in latest(history).items():
        mean = run["arms"]["diffusion"]["mean"]
        found[name] = {
            key: mean[key] <= aim if key in SMALLER else mean[key] >= aim
            for key, aim in AIMS.items()
            if mean[key] is not None
        }
    return found


def missed_aims(history: Sequence[Figures]) -> str:
    """Which aims the diffusion arm misses under which proposal, and by how much; a line each."""
    lines, runs = [], latest(history)
    for name, met in verdicts(history).items():
        mean = runs[name]["arms"]["diffusion"]["mean"]
        missed = [key for key, reached in met.items() if not reached]
        lines += [f"{_words(name)}: {ROWS[key]} is {_number(key, mean[key])}, the aim {_aim(key)}" for key in missed]
        if met and not missed:
            lines.append(f"{_words(name)}: every aim is met")
    return "\n".join(lines)


def _marks(runs: Mapping[str, Figures], arm: str, keys: Sequence[str]) -> str:
    head = ["", *map(_words, runs), "aim"]
    rows = [[title, *(str(run[key]) for run in runs.values()), ""] for key, title in FACTS.items()]
    rows += [[ROWS[key], *(_cell(key, run["arms"][arm]) for run in runs.values()), _aim(key)] for key in keys]
    return table(head, rows)


def _history(history: Iterable[Figures]) -> str:
    rows = [
        [run["commit"], _words(run["proposal"]), arm, str(run["classifiers"])]
        + ["–" if arm == "exact" and key not in EXACT else _mean(key, run["arms"][arm]) for key in PAST]
        for run in history
        for arm in ARMS
        if arm in run["arms"]
    ]
    return table(["commit", "proposal", "editor", "classifiers", *PAST.values()], rows)


def _baselines(run: Figures, shorter: Iterable[Figures]) -> str:
    """The readings of a run, and those that only runs on fewer classifiers have, each beside ours on the same ones."""
    arm = run["arms"]["diffusion"]
    rows = [["this project", *(_cell(key, arm) for key in BESIDE)]]
    for title, each in arm["baselines"].items():
        some = f" ({each['classifiers']} classifiers)" if "ours" in each else ""
        rows.append([title + some, *(_cell(key, each) for key in BESIDE)])
        if some:
            rows.append([f"this project on the same{some}", *(_cell(key, each["ours"]) for key in BESIDE)])
    for each in shorter:
        of, some = each["arms"].get("diffusion", {}), f" ({each['classifiers']} classifiers, {each['commit']})"
        more = {title: found for title, found in of.get("baselines", {}).items() if title not in arm["baselines"]}
        rows += [[title + some, *(_cell(key, found) for key in BESIDE)] for title, found in more.items()]
        if more:
            rows.append([f"this project on the same{some}", *(_cell(key, of) for key in BESIDE)])
    return table(["", *BESIDE.values()], rows)


def _cell(key: str, figures: Figures) -> str:
    bounds = figures["interval"].get(key)  # a mark may be younger than the run
    shown = _mean(key, figures)
    return shown + (f" ({_number(key, bounds[0])} to {_number(key, bounds[1])})" if bounds else "")


def _mean(key: str, figures: Figures) -> str:
    value = figures["mean"].get(key)
    return "–" if value is None else _number(key, value)


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
    """Publish exams: add them to the history, write the page's tables."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("files", type=Path, nargs="*", help="what `diffex bench truth --exam --json FILE` wrote")
    parser.add_argument("--commit", help="that the exams ran at, of files that do not say")
    parser.add_argument("--world", default=AVATARS, help="whose exam it is")
    parser.add_argument("--docs", type=Path, default=DOCS)
    options = parser.parse_args(arguments)
    written = written_of(options.files, options.world)
    new = [run for _, whole in written for run in published(whole, options.commit)]
    kept, page, mark = places(options.docs, MARK, options.world)
    history = publish_runs(kept, page, mark, lambda known: with_runs(known, new), as_markdown)
    print(missed_aims(history))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
