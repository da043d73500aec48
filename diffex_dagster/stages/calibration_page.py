"""The page of a calibration: gathered from the store and written beside the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diffex_dagster.editing.calibration import METHOD, Choice, Try, in_words
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.report.calibration_page import CalibrationPage, Prompt, Shot, Tried, render_calibration
from diffex_dagster.report.wording import feature_title
from diffex_dagster.results import Picture
from diffex_dagster.stages.calibration import Calibration, study_edits, wanted_prompts
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.store import Store, StoredPicture
from diffex_dagster.study import Study
from diffex_dagster.utils.files import write_output


def page_path(study: Study) -> Path:
    """Where the page of the editor in use is."""
    return study.results_folder / "calibration" / study.kept_as / f"{study.editor_name}.html"


def write_page(study: Study, page: CalibrationPage) -> Path:
    """Write what was tried and chosen; returns the page."""
    file = page_path(study)
    write_output(file, render_calibration(page).encode())
    return file


def chosen_edits(page: CalibrationPage) -> list[tuple[str, tuple[Picture, Picture]]]:
    """One prompt of each group, the first whose choice was tried on the image that the page shows.

    Returns:
        (prompt and options in words, (null edit, edit under the options that were chosen)) in the order of the corpus.
    """
    by_group: dict[str, tuple[str, tuple[Picture, Picture]]] = {}
    for prompt in page.prompts:
        for shot in prompt.shots:
            if shot.chosen and prompt.null is not None:
                title = feature_title(prompt.prompt, prompt.prompt, prompt.direction)
                by_group.setdefault(prompt.group, (f"{title}: {prompt.setting}", (prompt.null, shot.picture)))
    return list(by_group.values())


def page_of(work: StudyContext, found: Calibration) -> CalibrationPage:
    """What the store holds of a calibration, with its pictures."""
    editor = work.editor.fingerprint
    with work.store.hold():
        return _page(work.study, work.store, editor, found)


def _page(study: Study, store: Store, editor: str, found: Calibration) -> CalibrationPage:
    corpus = store.current_corpus(study.kept_as)
    order = list(dict.fromkeys((w.prompt, w.direction) for w in wanted_prompts(corpus)))
    tries: dict[tuple[str, str], list[Try]] = {}
    for each in found.tries:
        tries.setdefault((each.wanted.prompt, each.wanted.direction), []).append(each)
    # One image of each prompt: the one with the most tries, all of them the same image's.
    shown = {of: _of_one_image(some) for of, some in tries.items()}
    every = [each for some in shown.values() for each in some]
    nulls = [EditRequest(each.image, (), study.seed) for each in every]
    files = store.stored_edits(list(dict.fromkeys([*(_request(study, each) for each in every), *nulls])), editor)
    pictures = {request: StoredPicture(store.pictures, file) for request, file in files.items()}
    prompts = [
        _prompt(study, of, found.choices[of], shown.get(of, []), pictures) for of in order if of in found.choices
    ]
    images = {each.image for each in found.tries}
    return CalibrationPage(
        study.name, study.editor_name, len(images) or len(found.images), found.budget, found.edits.made,
        study_edits(study, corpus, len(store.samples(study.kept_as))), found.note, _settings(found), prompts,
    )  # fmt: skip


def _request(study: Study, each: Try) -> EditRequest:
    concept = Concept(each.wanted.prompt, each.wanted.direction, each.setting)
    return EditRequest(each.image, (concept,), study.seed)


def _of_one_image(tries: Sequence[Try]) -> list[Try]:
    by: dict[str, list[Try]] = {}
    for each in tries:
        by.setdefault(each.image, []).append(each)
    return max(by.values(), key=len)


def _prompt(
    study: Study,
    of: tuple[str, str],
    choice: Choice,
    tries: Sequence[Try],
    pictures: Mapping[EditRequest, StoredPicture],
) -> Prompt:
    shots = [
        Shot(
            pictures[_request(study, each)], in_words(each.setting), each.succeeded, each.harm,
            each.setting == choice.setting,
        )
        for each in sorted(tries, key=lambda each: (each.setting != choice.setting, each.harm))
        if _request(study, each) in pictures
    ]  # fmt: skip
    null = EditRequest(tries[0].image, (), study.seed) if tries else None
    picture = None if null is None else pictures.get(null)
    group = tries[0].wanted.group if tries else ""
    return Prompt(*of, group, in_words(choice.setting), choice.success, choice.tries, choice.why, picture,
                  tuple(shots) if picture else (), choice.earlier)  # fmt: skip


def _settings(found: Calibration) -> list[Tried]:
    by: dict[tuple[str, bool], list[Try]] = {}
    for each in found.tries:
        by.setdefault((each.setting, each.method != METHOD), []).append(each)
    chosen = [(choice.setting, choice.earlier) for choice in found.choices.values()]
    rows = [
        Tried(
            in_words(setting),
            len(some),
            sum(each.succeeded for each in some),
            sum(each.harm for each in some) / len(some),
            not earlier and setting in found.finalists,
            chosen.count((setting, earlier)),
            earlier,
        )
        for (setting, earlier), some in by.items()
    ]
    return sorted(rows, key=lambda row: (row.earlier, -row.chosen, not row.final, -row.tries, row.harm))
