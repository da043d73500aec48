"""Figures that a command measured, kept in a file and written into the documentation between two marks of a page."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from diffex_dagster.bench.checkout import in_history
from diffex_dagster.effects.deciding_one import CLAIMS
from diffex_dagster.errors import DiffExError
from diffex_dagster.utils.files import check_output, write_output

DIGITS = 4  # of a published figure

Run = Mapping[str, Any]


def commit_of(whole: Mapping[str, Any], commit: str | None) -> str:
    """The commit that figures were measured at, which has to be one that a reader can check out.

    Args:
        whole: what a benchmark wrote.
        commit: what a person says, of a file that does not say.

    Raises:
        DiffExError: neither says it, it is no commit of this checkout's history, or it had changes that none holds.
    """
    ran_at = str(whole.get("commit") or commit or "")
    if not ran_at:
        raise DiffExError("the file does not say at which commit it ran; name it with --commit")
    if ran_at.endswith("+"):
        raise DiffExError(
            f"the file was measured at {ran_at}, with changes that no commit holds, and cannot be published: commit "
            "them, and measure again"
        )
    if in_history(ran_at) is False:
        raise DiffExError(
            f"the file was measured at {ran_at}, which is no commit in the history of this checkout, and cannot be "
            "published: check out a branch that holds it, or measure again"
        )
    return ran_at


def rounded(value: Any) -> Any:
    """Figures with `DIGITS` decimals, also those within lists and mappings."""
    if isinstance(value, Mapping):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, DIGITS) if isinstance(value, float) else value


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def missed_effects(missed: Mapping[str, int]) -> str:
    """How many true effects were missed for which reason, the commonest first."""
    causes = sorted(missed.items(), key=lambda item: -item[1])
    return ", ".join(f"{why} {count}" for why, count in causes) or "none"


def claims_of(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Of all classifiers together: how many features are claimed, and how many of them falsely, for which reason.

    Args:
        arm: as `bench.truth_tables.as_json` gives it.
    """
    false = Counter(why for row in arm["classifiers"].values() for why in row["false_discoveries"].values())
    made = sum(point["decision"] in CLAIMS for of_one in arm["points"].values() for point in of_one)
    return {"claims": made, "false": dict(false)}


def of_claims(run: Mapping[str, Any]) -> str:
    """The same as a half-sentence; nothing of a run from before it was kept."""
    if "claims" not in run:
        return ""
    made, false = run["claims"], run.get("false", {})
    if not made:
        return "; nothing is claimed, so that no claim is false"
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(false.items()))
    return f"; claims in all: {made}" + (f", false of them: {kinds}" if kinds else "")


def write_between(page: Path, name: str, text: str) -> None:
    """Put a text between the marks `<!-- NAME begins -->` and `<!-- NAME ends -->` of a page.

    Args:
        page: a Markdown file.
        name: of the marks.
        text: Markdown that ends with a line break.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- {name} begins -->", f"<!-- {name} ends -->"
    whole = page.read_text("utf-8")
    marked = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
    if not marked.search(whole):
        raise ValueError(f"{page} has no {begin} ... {end}: write them where the tables belong")
    write_output(page, marked.sub(lambda _: f"{begin}\n\n{text}\n{end}", whole).encode())


def publish(kept: Path, figures: Mapping[str, Any], page: Path, name: str, text: str) -> None:
    """Keep figures, and write what they say into a page; what the page cannot take is not kept either.

    Args:
        kept: the JSON file of the figures.
        page, name, text: as `write_between` takes them.

    Raises:
        ValueError: the page has no such marks.
        OSError: there is no such page.
        DiffExError: a file cannot be written.
    """
    check_output(kept)
    write_between(page, name, text)
    write_output(kept, (json.dumps(figures, indent=1, ensure_ascii=False) + "\n").encode())


def publish_runs(
    kept: Path,
    page: Path,
    name: str,
    added: Callable[[Sequence[Run]], Sequence[Run]],
    as_markdown: Callable[[Sequence[Run]], str],
) -> Sequence[Run]:
    """Change a history of runs and write its tables into a page, or leave both as they are.

    Args:
        kept: the JSON file of the history; there may be none yet.
        page, name: of the marks, as `write_between` takes them.
        added: the history -> what it becomes.
        as_markdown: runs -> the page's tables.

    Returns:
        The runs that are kept now, the oldest first or in whatever order `added` gives them.

    Raises:
        As `publish`, `added` and `as_markdown` do.
    """
    runs = added(json.loads(kept.read_text("utf-8"))["runs"] if kept.exists() else [])
    publish(kept, {"runs": runs}, page, name, as_markdown(runs))
    return runs
