"""Stage: ask for the next attributes to try. What comes back is kept, and never applied by itself.

The model is shown what a report cannot explain: the images furthest from what their features predict, and images on
both sides of the features that raise some and lower others. A person takes suggestions up into the corpus file
(`accept`); from then on they are features like any other.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from diffex_dagster.corpus.accepting import Accepted, with_additions
from diffex_dagster.corpus.cleaning import CleaningOptions
from diffex_dagster.corpus.overrides import merge, why_not_added
from diffex_dagster.corpus.overrides_file import addition_of, overrides_from_text, read_overrides
from diffex_dagster.corpus.refining import (
    Refined,
    Refinement,
    Refiner,
    Seen,
    Suggestion,
    helped,
    read_suggestions,
    refine_prompt,
    usable_suggestions,
)
from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.protocol import HelpingProposer
from diffex_dagster.errors import CorpusError
from diffex_dagster.report.wording import SHOWN, UNSAID, digits_for, number, plain, signed
from diffex_dagster.results import Example, RankedFeature, Report, Unexplained, opened
from diffex_dagster.stages.context import Planned, StudyContext, Subject
from diffex_dagster.stages.corpus import class_names, problems
from diffex_dagster.stages.report import classifier_report, compared_rounds, keep_completeness
from diffex_dagster.stages.search import replay_search
from diffex_dagster.store.rounds import Round
from diffex_dagster.study import Study
from diffex_dagster.utils.files import write_atomically
from diffex_dagster.utils.imports import at_own_code
from diffex_dagster.utils.text import read_text

FEATURES, SIDES = 3, 2
"""Features whose images are shown, and how many images of each side."""


@dataclass(frozen=True)
class Suggested:
    """A round of refinement.

    Attributes:
        classifier: whose report it starts from.
        corpus_version: with which it was explained.
        suggestions: in the model's order.
        answer: as it came, with what it cost.
        rounds: so far, those that this one can be compared with (`compared_rounds`), the first one first.
    """

    classifier: str
    corpus_version: str
    suggestions: tuple[Suggestion, ...]
    answer: Refined
    rounds: tuple[Round, ...]


def question_of(subject: Subject) -> tuple[Refinement, Report]:
    """What the model is asked after a classifier's report.

    Raises:
        StoreError: the search has not been run.
        CorpusError: how much is explained is not known.
    """
    report, _ = classifier_report(subject, "")
    keep_completeness(subject, report)
    if subject.split.held_out:
        seen = on_discovery(subject)
        report, _ = classifier_report(seen, "", replay_search(seen, judging=True))
    found = report.completeness
    if found is None or found.score is None:
        nothing = found is not None and found.varies is False
        where = "there is nothing to explain" if nothing else "what is explained is not known"
        why = found.why if found else "this report does not say"
        raise CorpusError(f"{subject.study.file}: nothing can be refined where {where}: {why}")
    corpus, study = subject.corpus, subject.study
    there = {feature.id for feature in corpus.walk()}
    before = [
        each.suggestion.name
        for each in subject.store.suggestions(study.kept_as)
        if each.after.corpus_version != corpus.version
        and there.isdisjoint(each.suggestion.brings or (each.suggestion.id,))
    ]
    names = {subject.name: subject.classifier.labels}
    asked = Refinement(
        domain=study.domain,
        measure=report.target,
        pictures=tuple(pictures_shown(report)),
        tried=tuple(lines_of(corpus, report.features)),
        before=tuple(dict.fromkeys(before)),
        class_labels=class_names(study, names),
    )
    return asked, report


def on_discovery(subject: Subject) -> Subject:
    """The same work on the images that the search has seen, without what was looked at on the others alone.

    A suggestion that was named from images which are held out would be confirmed on those that it was named from.
    """
    study, held_out = subject.study, ("absence", "side_effects")  # nothing of these was made on discovery images
    changed = study.changed(
        effects=study.effects.model_copy(update={"confirmation": 0.0, **dict.fromkeys(held_out, 0)}),
        search=study.search.model_copy(update={"interactions": 0}),
        report=study.report.model_copy(update={"gradcam": 0}),
    )
    samples, seen = subject.samples, subject.split.discovery
    only = Planned(subject.corpus, {image: samples[image] for image in seen})
    return replace(subject.changed(changed, second_judge=None), planned=only)


def pictures_shown(report: Report) -> Iterator[Seen]:
    """The images that are explained least, then both sides of the features that divide the images most."""
    assert report.completeness is not None
    least = report.completeness.least_explained
    digits = digits_for(x for each in least for x in (each.score, each.predicted))
    for each in least:
        if each.picture is not None:
            side = "above" if each.score > each.predicted else "below"
            yield Seen(_missed(each, side, digits), opened(each.picture), side)
    claimed = [f for f in report.features if f.decision in SHOWN]
    ordered = sorted(claimed, key=lambda f: (f.decision != "mixed", -f.magnitude))
    for feature in ordered[:FEATURES]:
        examples = report.examples.get(feature.feature, ())
        digits = digits_for(example.effect for example in examples)
        for side, example in _both_sides(examples):
            yield Seen(
                f"before an edit towards {plain(feature.name, 60)!r}, which moves its score by "
                f"{signed(example.effect, digits)}",
                opened(example.null),
                side,
            )


def _missed(each: Unexplained, side: str, digits: int) -> str:
    shows = ", ".join(plain(name, 40) for name in each.shows) or "none of the attributes"
    score, predicted = number(each.score, digits), number(each.predicted, digits)
    return f"scored {score}, predicted {predicted}: {side} its prediction; shows {shows}"


def _both_sides(examples: Sequence[Example]) -> Iterator[tuple[str, Example]]:
    """The images that a feature moves most one way and the other, each side's strongest first.

    Args:
        examples: by descending effect.
    """
    up = min(SIDES, (len(examples) + 1) // 2)
    yield from (("up", example) for example in examples[:up])
    yield from (("down", example) for example in examples[up:][: -SIDES - 1 : -1])


def lines_of(corpus: Corpus, ranked: Sequence[RankedFeature]) -> Iterator[str]:
    """Every feature of the corpus and what its edits did."""
    rows = {row.feature: row for row in ranked}
    digits = digits_for(x for row in ranked for x in (row.effect, row.magnitude))
    for feature in corpus.walk():
        row = rows.get(feature.id)
        if row is None:
            said = "a heading" if not feature.editable else "not scored"
        elif row.decision in UNSAID:
            said = row.decision
        else:
            said = (
                f"{row.decision}, {signed(row.effect, digits)} on average, {number(row.magnitude, digits)} either way"
            )
        yield f"{feature.id}: {plain(feature.name, 60)}: {said}"


def suggest(subject: Subject) -> Suggested:
    """Ask for the next attributes after a classifier's report, and keep them. A question is never asked twice.

    Raises:
        CorpusError: nobody can be asked, or no answer can be used.
        StoreError: the search has not been run.
    """
    study, store, proposer = subject.study, subject.store, subject.proposer
    if not isinstance(proposer, Refiner) or not (study.corpus.vlm and study.corpus.vlm.refines):
        raise CorpusError(
            f"{study.file}: corpus.vlm: nobody can be asked for the next attribute; name a live model, or a recorded "
            "answer with `suggestions`: a saved answer to `diffex refine STUDY --question FOLDER`"
        )
    asked, report = question_of(subject)
    doing = f"{study.file}: corpus.vlm: {proposer.__class__.__name__} fails while it names the next attributes"
    part, corpus = study.corpus, subject.corpus
    options = CleaningOptions(leakage=part.leakage, vague=part.vague)
    with at_own_code(doing, "mend it, or name a recorded answer with `suggestions`", CorpusError):
        answer = proposer.refine(asked)
        if isinstance(proposer, HelpingProposer):
            options = helped(options, proposer.help(answer.usage))
        found = usable_suggestions(read_suggestions(answer.answer), corpus, asked.class_labels, options)
    store.put_suggestions(compared_rounds(subject), report.corpus_version, found, answer.model)
    rounds = store.rounds(compared_rounds(subject))
    return Suggested(subject.name, report.corpus_version, tuple(found), answer, tuple(rounds))


def write_question(subject: Subject, folder: Path) -> list[Path]:
    """The question as files, for any model that a person can ask: `question.md`, and its pictures in their order.

    Those of an earlier question in the folder are replaced, so that none is left of a longer one.

    Raises:
        CorpusError: the folder cannot be made, or its pictures are not those of a question.
    """
    old, files = _folder_of_question(folder), [folder / "question.md"]
    asked, _ = question_of(subject)
    for picture in old:
        picture.unlink()
    write_atomically(files[0], (refine_prompt(asked) + "\n").encode("utf-8"))
    for i, seen in enumerate(asked.pictures, 1):
        files.append(folder / f"{i:02d}.png")
        seen.picture.save(files[-1])
    return files


def _folder_of_question(folder: Path) -> list[Path]:
    """The pictures of an earlier question in a folder, which is made where there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        old = [path for path in folder.glob("*.png") if re.fullmatch(r"\d\d+", path.stem)]
    except OSError as error:
        raise CorpusError(
            f"{folder}: --question writes into a folder, which this is not and cannot become ({error.strerror}); "
            "name another one"
        ) from error
    if old and not (folder / "question.md").is_file():
        raise CorpusError(
            f"{folder}: --question would write over {old[0].name}, which is not of a question of before; name a new "
            "folder"
        )
    return old


def open_suggestions(work: StudyContext, proposal: Corpus) -> list[tuple[Suggestion, str]]:
    """Suggestions that can be taken up, each once, with the model that named it: the latest round first, in its order.

    Of each those entries that the corpus file could take now, each by itself.

    Args:
        proposal: what the file changes.
    """
    file = read_overrides(work.study.path(work.study.corpus.overrides))
    rounds: dict[tuple[str, ...], list[tuple[Suggestion, str]]] = {}
    for each in work.store.suggestions(work.study.kept_as):
        one, model = each.suggestion, each.model
        entries = tuple(entry for entry in one.entries if not one.left_out and not why_not_added(proposal, file, entry))
        if entries:
            rounds.setdefault((*each.after, model), []).append((replace(one, entries=entries), model))
    found: dict[str, tuple[Suggestion, str]] = {}
    for one, model in itertools.chain.from_iterable(reversed(rounds.values())):
        found.setdefault(one.id, (one, model))
    return list(found.values())


def accept(
    work: StudyContext, proposal: Corpus, names: Sequence[str]
) -> tuple[list[Suggestion], list[tuple[Suggestion, str]]]:
    """Write suggestions into the study's corpus file, under `add:`, with why each was named as a comment.

    Nothing is written unless the file says afterwards what can be searched.

    Args:
        proposal: what the file changes.
        names: ids or names of suggestions; all that can be taken up where there is none.

    Returns:
        What was written, and what of all was left out, with why: it is what another one is, or has no place.

    Raises:
        CorpusError: there is no such suggestion, or the file does not take one that was named, or any.
    """
    study, known = work.study, open_suggestions(work, proposal)
    path = study.path(study.corpus.overrides)
    chosen = []
    for name in names:
        found = [each for each in known if name in (each[0].id, each[0].name)]
        if not found:
            there = ", ".join(one.id for one, _ in known) or "none; run `diffex refine` first"
            raise CorpusError(f"{path}: no suggestion {name!r} can be taken up; there are: {there}")
        chosen += [each for each in found[:1] if each not in chosen]
    chosen = chosen if names else known
    if not chosen:
        raise CorpusError(f"{path}: there is no suggestion to take up; run `diffex refine {study.name}` first")
    text, taken, left = read_text(path) if path.exists() else "", [], []
    for one, model in chosen:
        try:
            text = _taken(text, one, model, proposal, study)
        except CorpusError as error:
            if names or len(chosen) == 1:
                raise
            left.append((one, str(error).removeprefix(f"{path}: ")))
        else:
            taken.append(one)
    if not taken:
        raise CorpusError(f"{path}: nothing can be taken up: {left[0][0].id}: {left[0][1]}")
    write_atomically(path, text.encode("utf-8"))
    return taken, left


def _taken(text: str, one: Suggestion, model: str, proposal: Corpus, study: Study) -> str:
    """The text of the corpus file with one more suggestion.

    Raises:
        CorpusError: it could not be searched then, or does not take it.
    """
    path = str(study.path(study.corpus.overrides))
    said = [f"suggested by {Path(model).name}: {one.why}", *[""] * (len(one.entries) - 1)]
    file = overrides_from_text(text, path)
    for entry in one.entries:  # before they have lines, which nobody could look up
        if why := why_not_added(proposal, file, entry):
            raise CorpusError(f"{path}: {one.name!r} cannot be taken up: {why}")
        file = replace(file, add=(*file.add, addition_of(entry)))
    after = with_additions(text, [Accepted(*each) for each in zip(one.entries, said, strict=True)], path)
    if wrong := problems(merge(proposal, overrides_from_text(after, path)), study.search):
        raise CorpusError(f"{path}: with {one.name!r} it could not be searched: {'; '.join(wrong)}")
    return after
