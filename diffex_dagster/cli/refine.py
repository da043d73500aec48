"""`diffex refine` and `diffex corpus accept`: name the next attributes to try, and take them up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffex_dagster.corpus.refining import Suggestion
from diffex_dagster.errors import StoreError
from diffex_dagster.report.wording import count, listing, plain, share
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.corpus import merged
from diffex_dagster.stages.corpus_now import proposal_now
from diffex_dagster.stages.suggestions import Suggested, accept, open_suggestions, suggest, write_question
from diffex_dagster.store.rounds import Round
from diffex_dagster.study import Study
from diffex_dagster.utils.progress import Reporter


def make(study: Study, classifier: str, report: Reporter, console: Console) -> None:
    """Ask for the next attributes after a classifier's report, and print them."""
    found = suggest(StudyContext(study, report=report).subject(classifier))
    show(study, found, console)


def show(study: Study, found: Suggested, console: Console) -> None:
    """Print a round: what can be tried, what cannot and why, and how much each round explained.

    A model's words are printed as they are, without what a terminal would take for an order.
    """
    usage = found.answer.usage
    paid = f"{count(usage.made, 'call')} made, {usage.reused} from before"
    console.print(Text(f"{found.classifier}: suggestions of {plain(found.answer.model, 80)} ({paid})"))
    console.print(_table([one for one in found.suggestions if not one.left_out]))
    for one in found.suggestions:
        if one.left_out:
            console.print(Text(f"left out: {plain(one.name, 60)}: {plain(one.left_out, 200)}"))
    for line in rounds_in_words(found.rounds):
        console.print(Text(line))
    console.print(Text(f"take up: diffex corpus accept {study.folder.name} NAME…   (or write them into the file)"))


def _table(suggestions: Sequence[Suggestion]) -> Table:
    table = Table("name", "what", "entries", "why")
    for one in suggestions:
        under = f"{one.kind} of {one.under}" if one.under else "new group"
        names = [str(n["name"]) for entry in one.entries for n in (entry.get("children") or [entry])]
        table.add_row(*(Text(plain(text, 300)) for text in (one.id, under, ", ".join(names), one.why)))
    return table


def rounds_in_words(rounds: Sequence[Round]) -> list[str]:
    """One line a round: how much was explained with its corpus."""
    return [
        f"round {each.round}: corpus {each.corpus_version[:8]}, {count(each.features, 'feature')}: "
        + (
            "not known"
            if each.score is None
            else f"{share(each.score)} explained ({share(each.low)} to {share(each.high)})"
        )
        for each in rounds
    ]


def question(study: Study, classifier: str, folder: Path, report: Reporter, console: Console) -> None:
    """Write the question as files, for a model that a person asks."""
    files = write_question(StudyContext(study, report=report).subject(classifier), folder)
    console.print(Text(f"{files[0]}, with {count(len(files) - 1, 'picture')} to attach in their order"))


def take_up(study: Study, names: Sequence[str], everything: bool, console: Console) -> None:
    """Write suggestions into the corpus file; without names, and without --all, say which there are.

    Raises:
        CorpusError: there is no such suggestion, or the file does not take it.
        StoreError: the study has no results.
    """
    work = StudyContext(study)
    if not work.store.exists():
        raise StoreError(
            f"{work.store.place}: there is no suggestion yet; run `diffex refine {study.folder.name}` first"
        )
    path, proposal = study.path(study.corpus.overrides), proposal_now(study)
    if not names and not everything:
        found = [one for one, _ in open_suggestions(work.to_read(), proposal)]
        none = f"there is no suggestion to take up; `diffex refine {study.folder.name}` asks for some"
        console.print(_table(found) if found else Text(none))
        return
    taken, left = accept(work, proposal, names)
    console.print(Text(f"{path}: added {plain(listing([one.name for one in taken]), 400)}"))
    for one, why in left:
        console.print(Text(f"left out: {plain(one.name, 60)}: {plain(why, 300)}"))
    try:
        before = work.store.current_corpus(study.kept_as)
    except StoreError:
        return
    now = merged(proposal, path)
    edits = {f.id for f in now.walk() if f.editable} - {f.id for f in before.walk() if f.editable}
    console.print(Text(f"`diffex run {study.folder.name}` edits and scores {count(len(edits), 'new feature')}"))
