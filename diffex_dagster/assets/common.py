"""What the asset shells share: names, versions, metadata, errors."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg

from diffex_dagster.assets import kept
from diffex_dagster.assets.automation import when_unsynced
from diffex_dagster.corpus.cleaning import STEPS
from diffex_dagster.corpus.showing import CorpusDiff
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.usage import Usage
from diffex_dagster.errors import DiffExError, may_pass, of_a_disk
from diffex_dagster.report.markdown_tables import markdown_text
from diffex_dagster.report.sheets import contact_sheet, data_uri
from diffex_dagster.results import Picture
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edits import EditCounts
from diffex_dagster.stages.plan import PlannedStage
from diffex_dagster.stages.settings import Stage, stage_version
from diffex_dagster.store import Store
from diffex_dagster.study import Study
from diffex_dagster.utils.secrets import none_raised

GPU_MEMORY = "gpu_memory_gb"  # metadata of an edit stage: the most it held, which `diffex plan` expects again

SHEET_IMAGES, SHEET_ROWS = 6, 14  # as wide as the dialog in which the UI shows it


@dataclass(frozen=True)
class Names:
    """Asset keys of one study."""

    study: Study

    def key(self, *parts: str) -> dg.AssetKey:
        """Key of a stage: `avatars/level1_edits`, `avatars/persona_v1/level1_scores`."""
        return dg.AssetKey([self.study.prefix, *parts])

    def options(self, stage: Stage, group: str = "shared") -> dict[str, Any]:
        """What every stage's asset has: a group, owners, a version that its settings decide, and when it is requested.

        Args:
            group: a classifier's name, for its stages.
        """
        first = ("sample_images", "vlm_corpus", "corpus")
        waits_for = first if stage not in first else first[:1]
        return {
            "group_name": f"{self.study.prefix}_{group}",
            "owners": list(self.study.owners) or None,
            "code_version": stage_version(self.study, stage),
            "automation_condition": when_unsynced(
                dg.AssetSelection.assets(*(self.key(each) for each in waits_for)),
                new=stage
                in (
                    "source_prompts",
                    "editor_calibration",
                    "level1_scores",
                ),  # by which a setting, a classifier version enter
            ),
        }


def page_metadata(study: Study, page: Path) -> dg.MetadataValue:
    """A page of the results: its address where the deployment serves them, for any browser; else its path."""
    address = study.deployment.results.url
    if address is None:
        return dg.MetadataValue.path(str(page))
    relative = page.relative_to(study.results_folder).as_posix()
    return dg.MetadataValue.url(f"{address.rstrip('/')}/{quote(study.name)}/{quote(relative)}")


def table_metadata(store: Store, table: str, rows: int) -> dict[str, Any]:
    """Where an asset's rows are, how many, and their columns, as any DuckDB client sees them.

    Args:
        rows: of this asset; the table also has those of others.
    """
    schema = dg.TableSchema(columns=[dg.TableColumn(name, kind) for name, kind in store.columns(table).items()])
    return {
        "dagster/row_count": rows,
        "dagster/table_name": store.database.full_name(table),
        "dagster/column_schema": dg.MetadataValue.table_schema(schema),
        "dagster/storage_kind": store.database.kind,
    }


def feature_table(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> dg.TableMetadataValue:
    """Rows as a table that the UI shows and other programs can ask for; `columns` are their names and types."""
    return dg.MetadataValue.table(
        records=[dg.TableRecord({name: row[name] for name in columns}) for row in rows],
        schema=dg.TableSchema(columns=[dg.TableColumn(name, kind) for name, kind in columns.items()]),
    )


def with_code(study: Study, assets: Sequence[Any], tags: Mapping[str, str]) -> Sequence[Any]:
    """The assets, each with links to its code and to the study file (see `links`), and with whose it is.

    Args:
        tags: of the study's runs.
    """

    def linked(spec: dg.AssetSpec) -> dg.AssetSpec:
        known = spec.metadata.get(_CODE)
        code = known.code_references if isinstance(known, dg.CodeReferencesMetadataValue) else []
        found = [each for each in code if isinstance(each, dg.LocalFileCodeReference)]
        label = f"code of {spec.key.path[-1]}"
        files = [(Path(each.file_path), each.line_number, label) for each in found]
        return spec.merge_attributes(metadata={**tags, **links(study, *files)})

    located = dg.with_source_code_references(assets)
    return [each.map_asset_specs(linked) if isinstance(each, dg.AssetsDefinition) else each for each in located]


_CODE = "dagster/code_references"


def links(study: Study, *code: tuple[Path, int | None, str]) -> dict[str, Any]:
    """Metadata: links to the study file and to code.

    They are paths of this machine, or, where DIFFEX_CODE_URL says at which address the folder with `studies/` (or the
    Dagster project that the study is a component of) can be read, addresses that open from any browser:
    `https://github.com/acme/explanations/blob/main`. Code from elsewhere, such as this package where it is installed,
    then has no link.

    Args:
        code: file, line and what the link is called.
    """
    address = os.environ.get("DIFFEX_CODE_URL", "").rstrip("/")
    files = [(study.file, None, f"study {study.name}"), *code]
    if not address:
        local = [dg.LocalFileCodeReference(file_path=str(f), line_number=line, label=label) for f, line, label in files]
        return {_CODE: dg.CodeReferencesMetadataValue(code_references=list(local))}
    root = _root(study.file)
    remote = [
        dg.UrlCodeReference(
            url=f"{address}/{quote(file.relative_to(root).as_posix())}" + (f"#L{line}" if line else ""), label=label
        )
        for file, line, label in files
        if file.is_relative_to(root) and "site-packages" not in file.parts
    ]
    return {_CODE: dg.CodeReferencesMetadataValue(code_references=list(remote))}


def _root(file: Path) -> Path:
    """The folder that DIFFEX_CODE_URL shows: that with `studies/`, or the project that a component is part of."""
    if file.parent.parent.name == "studies":
        return file.parent.parent.parent
    projects = (folder for folder in file.parents if (folder / "pyproject.toml").exists())
    return next(projects, file.parent)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Dagster's notes to developers that a function is in beta or preview: the supported versions are pinned,
    and to a program that loads a study they say nothing.
    """
    with warnings.catch_warnings():
        for kind in (dg.BetaWarning, dg.PreviewWarning, dg.SupersessionWarning):
            warnings.simplefilter("ignore", kind)
        yield


RETRIES, RETRY_AFTER = 3, 30.0  # how often a step whose error may pass is tried again, and after how many seconds
ONCE = "diffex/once"  # tag of a run that somebody waits for: its steps are not tried again


@contextmanager
def clear_errors() -> Iterator[None]:
    """What the user can put right fails the step at once, with its one sentence and without a retry.

    What may pass by itself (a server that is down, a database that somebody has open) is tried again first. What was
    finished is kept, so that the next try goes on from there. Whatever fails it, the instance keeps no secret of it.
    """
    with none_raised():
        try:
            yield
        except DiffExError as error:
            context = dg.OpExecutionContext.get()
            if may_pass(error) and context.retry_number < RETRIES and not context.has_tag(ONCE):
                kept.warn(context, f"{error} It is tried again in {RETRY_AFTER:g} s.")
                raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=RETRY_AFTER) from error
            raise kept.failed(str(error)) from error
        except OSError as error:
            if (sentence := of_a_disk(error)) is None:
                raise
            raise kept.failed(str(sentence)) from error


def sheet(rows: Sequence[tuple[str, Sequence[Picture]]]) -> dg.MarkdownMetadataValue:
    """A contact sheet as metadata: a picture of at most 140 KB in the page itself, and what it has no place for."""
    shown = [(label, pictures[:SHEET_IMAGES]) for label, pictures in rows[:SHEET_ROWS]]
    text = f"![contact sheet]({data_uri(contact_sheet(shown, max_bytes=140_000))})"
    columns = max((len(pictures) for _, pictures in rows), default=0)
    left = [
        f"{there - kept} more {what}"
        for there, kept, what in ((len(rows), SHEET_ROWS, "rows"), (columns, SHEET_IMAGES, "pictures in a row"))
        if there > kept
    ]
    return dg.MetadataValue.md(text + (f"\n\nNot shown: {' and '.join(left)}." if left else ""))


def tree_metadata(corpus: Corpus) -> dg.MarkdownMetadataValue:
    """The corpus as a nested list. Names come from a model or a file: they are escaped."""
    lines = []
    for f in corpus.walk():
        line = f"{'  ' * (f.level - 1)}- {markdown_text(f.name)}"
        line += f" ({f.direction} {markdown_text(f.prompt)})" if f.editable else ""
        line += f" ×{f.support}" if f.support is not None else ""
        lines.append(line + (f", from {markdown_text(f.citation)}" if f.citation else ""))
    return dg.MetadataValue.md("\n".join(lines))


def steps_metadata(corpus: Corpus) -> dg.MarkdownMetadataValue:
    """Every step of cleaning, with what it dropped and why."""
    lines = []
    for step in STEPS:
        drops = [drop for drop in corpus.drops if drop.step == step]
        lines.append(f"- **{step}**: {len(drops) or 'nothing'}")
        lines += [f"  - {markdown_text(drop.name)}: {markdown_text(drop.reason)}" for drop in drops]
    return dg.MetadataValue.md("\n".join(lines))


def change_metadata(change: CorpusDiff) -> dg.MarkdownMetadataValue:
    """What a merge changed since the one before."""
    lines = [f"- added {markdown_text(f.id)}" for f in change.added]
    lines += [f"- removed {markdown_text(f.id)}" for f in change.removed]
    for one in change.changed:
        what = "; ".join(f"{name}: {markdown_text(old)} → {markdown_text(new)}" for name, old, new in one.fields)
        lines.append(f"- changed {markdown_text(one.feature.id)} ({what})")
    return dg.MetadataValue.md("\n".join(lines) or "nothing")


def drops_metadata(corpus: Corpus) -> dg.MarkdownMetadataValue:
    """What was left out and why."""
    lines = [f"- {markdown_text(drop.name)}: {markdown_text(drop.reason)}" for drop in corpus.drops]
    return dg.MetadataValue.md("\n".join(lines) or "nothing")


def announce(context: dg.AssetExecutionContext, planned: PlannedStage) -> None:
    """Say on the asset's page, before any picture is edited, what the stage is about to do (as `diffex plan` does)."""
    seconds = {} if planned.seconds is None else {"expected_edit_seconds": round(planned.seconds, 1)}
    metadata: dict[str, int | float | str] = {
        "edits_to_make": planned.edits_missing,
        "edits_to_reuse": planned.edits_reused,
        "pictures_to_score": planned.scores_missing,
        **seconds,
        **({"and_then": planned.note} if planned.note else {}),
    }
    context.log_event(kept.seen(context.asset_key, metadata, "the plan of this run"))


def judge_metadata(work: StudyContext) -> Mapping[str, Any]:
    """What judging cost, where a judge is asked over the network: requests, tokens and the price, where it is known."""
    found: dict[str, Any] = {}
    for prefix, judge in (("judge", work.judge), ("second_judge", work.second_judge)):
        usage: Usage | None = getattr(judge, "usage", None)
        if usage is not None:
            found |= {
                f"{prefix}_requests": usage.made,
                f"{prefix}_requests_reused": usage.reused,
                f"{prefix}_tokens": usage.prompt_tokens + usage.completion_tokens,
                **({} if usage.price is None else {f"{prefix}_price_usd": round(usage.price, 4)}),
            }
    return found


def edit_metadata(counts: EditCounts) -> Mapping[str, Any]:
    """What a stage's edits cost."""
    return {
        "edits_made": counts.made,
        "edits_reused": counts.reused,
        "edit_seconds": round(counts.seconds, 2),
        **({} if counts.gpu_gb is None else {GPU_MEMORY: round(counts.gpu_gb, 2)}),
        **({"descriptions_shortened": counts.shortened} if counts.shortened else {}),
        **_crew_metadata(counts),
    }


def _crew_metadata(counts: EditCounts) -> Mapping[str, Any]:
    """The workers that made a stage's edits, where workers did."""
    if not counts.by_worker:
        return {}
    found: dict[str, Any] = {
        "workers": len(counts.by_worker),
        "edits_per_worker": dict(sorted(counts.by_worker.items())),
        "workers_lost": counts.lost,
        "batches_remade": counts.remade,
        "edits_per_second": round(counts.made / counts.seconds, 2) if counts.seconds else 0.0,
    }
    return found | ({"gpus": ", ".join(counts.gpus)} if counts.gpus else {})
