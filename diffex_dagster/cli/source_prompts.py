"""`diffex source-prompts`: the words that a study's pictures are described in."""

from __future__ import annotations

from collections.abc import Callable

from rich.table import Table

from diffex_dagster.assets.running import prepare_study
from diffex_dagster.cli.console import TableFormat, note, terminal
from diffex_dagster.cli.results import print_rows
from diffex_dagster.editing.vocabulary import FrozenVocabulary
from diffex_dagster.errors import StudyError
from diffex_dagster.report.wording import plain
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.ready import check_ready
from diffex_dagster.stages.source_prompts import find_again, word_rows
from diffex_dagster.stages.tried_first import tried_first
from diffex_dagster.study import Study
from diffex_dagster.utils.progress import Reporter


def make(study: Study, report: Reporter, say: Callable[[str], None] = note, again: bool = False) -> FrozenVocabulary:
    """The words as they are kept; found and frozen as in a run where they are not yet.

    Args:
        report: told how far it is.
        say: told, before it starts, what finding them costs.
        again: find them anew in the corpus as it is now.

    Raises:
        DiffExError: the study takes no words from its corpus, or its images, corpus or editor cannot be used.
    """
    if not study.finds_source_prompts:
        raise StudyError(
            f"{study.file}: editors.{study.editor_name}: this editor takes no words from the corpus; write "
            "source_prompts: auto for one of kind ledits"
        )
    check_ready(study)
    work = StudyContext(study)
    work.know()
    store, bare = work.store, work.bare_editor.fingerprint
    known = store.source_prompts(study.kept_as, bare) if store.exists() else None
    if again and known is not None:
        made = store.count("edits", editor=work.editor.fingerprint)
        say(f"{made} edits were made with what is kept now; a run makes anew those of them that it asks for")
        find_again(work)
    elif known is not None and known.used is not None:
        return known
    say(tried_first(work, options=False) or "no edits are to be tried: the words are not compared with edits without")
    prepare_study(study, "source_prompts", report, say)
    found = store.source_prompts(study.kept_as, bare)
    assert found is not None
    return found


def show(found: FrozenVocabulary, output: TableFormat) -> None:
    """Print a line a group, and whether edits are made with the words."""
    if output is not TableFormat.table:
        print_rows(word_rows(found), output)
    else:
        table = Table()
        for column in ("group", "words"):
            table.add_column(column)
        for row in word_rows(found):
            table.add_row(plain(str(row["group"]), 40), plain(str(row["words"]), 200))
        terminal().print(table)
    note(f"edits are made {'with' if found.used else 'without'} these words: {found.why}")
