"""`diffex store`: are the pictures what they were, and what may be removed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from diffex_dagster.errors import DiffExError, StoreError
from diffex_dagster.stages.setup import build_store
from diffex_dagster.store.store import SETTLED
from diffex_dagster.study import Study

SHOWN = 20  # files and runs that are named


def check(study: Study, console: Console) -> bool:
    """Read every picture of a study's results, and say which are lost, altered or nobody's; whether all that rows name
    are as they were."""
    store = build_store(study, reading=True)
    if not store.exists():
        raise StoreError(f"{store.place}: there are no results yet; run `diffex run {study.folder.name}` first")
    images, edits = store.count("images"), store.count("edits")
    lost, altered = store.bad_pictures()
    _say(console, f"{edits:,} edits and {images:,} sample images: {len(lost)} lost, {len(altered)} altered")
    for what, found in (("lost", lost), ("altered", altered)):
        _list(console, what, found)
    if not store.only_user():
        _say(
            console,
            f"other results may keep pictures in {store.pictures.place.name}: orphans are not looked for",
        )
    elif nameless := store.nameless(SETTLED if store.shares_pictures else 0.0):
        size = sum(nameless.values()) / 1e6
        _say(console, f"{len(nameless):,} files that no row names ({size:.1f} MB); `diffex store prune` removes them")
        _list(console, "orphan", sorted(nameless))
    if lost or altered:
        _say(console, f"`diffex run {study.folder.name}` makes them again, and nothing else")
    return not (lost or altered)


def prune(study: Study, yes: bool, console: Console) -> None:
    """Say what could be removed from a study's results, and remove it with `yes`.

    Raises:
        DiffExError: there are no results.
    """
    store = build_store(study, reading=not yes)
    if not store.exists():
        raise DiffExError(f"{store.place}: there are no results yet; nothing can be removed")
    found = store.superfluous(study.space)
    _say(
        console,
        f"{len(found.runs)} earlier reports that a later one replaced ({found.rows:,} rows of effects), and "
        f"{len(found.files)} files that no row names ({found.bytes / 1e6:.1f} MB)",
    )
    if not found.alone:
        _say(console, f"other results may keep pictures in {store.pictures.place.name}: files there are left alone")
    _list(console, "report of run", found.runs)
    _list(console, "file", found.files)
    if not (found.runs or found.files):
        return
    if not yes:
        _say(console, "nothing was removed; add --yes to remove these. Edits and scores are always kept")
        return
    store.prune(study.space)
    _say(console, "removed")


def export(study: Study, file: Path, console: Console) -> None:
    """Write a study's rows into a new DuckDB file.

    Raises:
        StoreError: there are no results, or the file is there or cannot be written.
    """
    from diffex_dagster.store.export import export_rows

    store = build_store(study, reading=True)
    if not store.exists():
        raise StoreError(f"{store.place}: there are no results yet; run `diffex run {study.folder.name}` first")
    rows = export_rows(store.database, study.kept_as, study.name, file)
    _say(console, f"{rows:,} rows in {file}; pictures stay in {store.pictures.place.name}")


def _list(console: Console, what: str, found: list[str] | tuple[str, ...]) -> None:
    for each in found[:SHOWN]:
        _say(console, f"  {what}: {each}")
    if len(found) > SHOWN:
        _say(console, f"  and {len(found) - SHOWN} more")


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
