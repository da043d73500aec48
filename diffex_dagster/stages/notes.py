"""What a report says beside its numbers: the settings, how its classes turn, and what a reader has to know."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from diffex_dagster.classifying.parts import Target
from diffex_dagster.classifying.target import decision_threshold, has_class
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.effects.paired import Reach, images_for_no_effect
from diffex_dagster.report.wording import NOT_JUDGED, count, listing, plain
from diffex_dagster.results import Turn
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.stages.searched import Searched
from diffex_dagster.stages.setup import why_unjudged
from diffex_dagster.stages.splits import Split
from diffex_dagster.study import Study

FEW_IMAGES = 30  # fewer leave intervals wide


def settings_shown(study: Study, margin: float, of: Split | None = None) -> tuple[tuple[str, str], ...]:
    """Everything in the study that decides the numbers, as (what, value) for the method section of a report.

    Options of a user's own editor are left out: nobody knows what is in them.

    Args:
        margin: effects inside ± this do not matter.
        of: the images of the report.
    """
    part, search, effects = study.editors[study.editor_name], study.search, study.effects
    alone = of is not None and of.one_image
    rate = "each feature for itself, against the control edits of the one image" if alone else effects.error_rate
    of_editor = part.model_dump(mode="json", exclude={"kind", "options"}, exclude_none=True)
    return (
        *((f"Editor: {field.replace('_', ' ')}", str(value)) for field, value in of_editor.items()),
        ("Seed", ", ".join(map(str, study.seeds))),
        ("Image side", f"{study.images.size} pixels"),
        ("Beam", f"{search.places or 'all'} groups; each competes with {search.probes} edits, its own or children's"),
        *([("Pairs", f"of the strongest features of {search.interactions} groups")] if search.interactions > 1 else []),
        ("Joint combination", f"up to {search.joint_size} features, {search.joint_width} candidates kept"),
        ("Error rate", f"{rate}, level {effects.level:g}"),
        ("No effect shown", f"interval inside ±{margin:.3g}, and what unseen images may do"),
        ("Control prompts", ", ".join(effects.control_prompts) or "none: claims are held against the null edits alone"),
        ("An edit happened from", f"{effects.min_edit_strength:g} mean pixel change in the most changed window"),
        ("Edits that must take", f"{effects.min_edit_success:.0%}, where they are judged ({study.judge.kind})"),
    )


def groups_looked_into(search: SearchOptions) -> str:
    """Which groups of the corpus a search looks into, as its gate and its beam decide it, in a sentence or two."""
    if search.places is None:
        return "The search looks into every group but those whose edits succeed and move no image (gate: magnitude)."
    most = count(search.places, "group")
    if search.gate == "signed":
        return (
            f"The search looks into the {most} with the highest mean effect, where that is {search.delta:g} or more "
            "(gate: signed)."
        )
    if search.gate == "absolute":
        return (
            f"The search looks into the {most} with the largest mean effect, up or down, however small that is "
            "(gate: absolute)."
        )
    return (
        f"The search looks into {most} at most (gate: magnitude): first those whose images move by more than the noise "
        "floor, then those whose edits fail or that most images show already, then the strongest of the others."
    )


def placed(editor: Editor) -> tuple[tuple[str, str], ...]:
    """Where this process edits, with "auto" resolved: part of the editor's fingerprint; nothing where it is unknown."""
    device, dtype = getattr(editor, "placement", (None, None))
    return (("Edited on", f"{device}, {dtype}"),) if device else ()


def turn_of(labels: Sequence[str], target: Target) -> Turn | None:
    """What it is called that an edit makes a picture the explained class; None where the target explains no class."""
    if not has_class(labels, target):
        return None
    threshold = decision_threshold(target)
    if threshold is not None and not target.bounded:
        what = target.kind.called(target)
        limit = f"{threshold:g} {target.unit}" if target.unit else f"{threshold:g}"
        rule = f"Images are told apart by whether {what} is above {limit}."
        return Turn(what, f"rises above {limit}", f"falls below {limit}", rule)
    named = [plain(label, 40) for label in ((target.label,) if target.name else target.members)]
    several = len(named) > 3
    name = f"one of {len(named)} classes" if several else listing([f"“{each}”" for each in named], "or")
    decided = "it is the predicted class" if len(target.members) == 1 else "the predicted class is one of them"
    by = decided if threshold is None else f"its probability is above {threshold:g}"
    rule = f"An image is of the explained class, {name}, when {by}."
    return Turn("the prediction", f"becomes {name}", f"stops being {name}", rule, 2 if threshold else len(labels))


def caveats(study: Study, of: Split, reach: Reach | None = None) -> tuple[str, ...]:
    """What a reader has to know before believing the numbers."""
    images = len(of.reported)
    chosen_on = (
        f"The search chose its features on {len(of.discovery)} images; effects and decisions come from {images} others."
        if of.held_out
        else "Effects are measured on the images that the search chose its features with; the strongest are therefore "
        "somewhat overestimated (the winner's curse)"
        + (f". From {study.effects.confirmation_from} images on, they come from images of their own."
           if study.effects.confirmation else ".")
    )  # fmt: skip
    notes = [
        chosen_on,
        "An effect is that of the edit as the editor made it: where an edit also changed something else, so did its "
        "effect. Look at the pictures.",
        f"Only attributes that the corpus names{' and the beam kept' if study.search.places else ''} were looked at.",
    ]
    if study.search.gate != "magnitude" and not of.held_out:
        notes.append(
            f"The groups were chosen by their mean effect (gate: {study.search.gate}) on the images that the effects "
            "are tested on: claims are then false more often than the stated rate. Use gate: magnitude, or enough "
            f"images for confirmation ({study.effects.confirmation_from})."
        )
    if reach:
        may = "a report may say “no effect shown”"
        notes += too_few_to_show(study, images, reach, "an attribute has no effect", may)
    if of.one_image:
        notes.insert(
            0,
            "Decisions are made on one image alone. They and the intervals are about it, each feature for itself: its "
            "edit lies further out than those towards words that mean nothing, and its effect is less their mean. "
            "An edit that changes the picture no "
            f"more than these do does so with a chance of {study.effects.level:.0%}; one that redraws more of it "
            "stands out more often, also where the classifier does not look at the attribute. Nothing is said of other "
            "images.",
        )
    else:
        notes = [*few_images(images, "effects"), *notes]
    so = "“Raises” and “lowers” say that the edits move the score, not that the attribute does."
    notes = [*without_controls(study, so), *notes]
    if len(study.effects.control_prompts) == 1:
        notes.append("With a single control prompt nothing tells whether it is one: two or more can be held together.")
    if study.truth:
        notes.append(
            "The images come from a world with known truth: the command line prints how the estimates compare with it."
        )
    return tuple(notes)


def nobody_judged(study: Study) -> str:
    """The caveat that stands at the top of a page whose edits nobody judged."""
    return f"{NOT_JUDGED}: {why_unjudged(study)}."


def few_images(images: int, what: str) -> list[str]:
    """That the images are few, where they are.

    Args:
        what: of which small ones stay undecided.
    """
    if images >= FEW_IMAGES:
        return []
    used = f"{count(images, 'image')} {'was' if images == 1 else 'were'} used"
    return [f"Only {used}: intervals are wide and small {what} stay undecided."]


def without_controls(study: Study, so: str) -> list[str]:
    """What is in the effects of a study that has no control prompts; nothing of one that has.

    Args:
        so: what follows for the page, in a sentence.
    """
    if study.effects.control_prompts:
        return []
    return [
        "The study has no control prompts (effects.control_prompts): claims are held against the null edits alone, and "
        f"what any edit does, towards nothing at all too, may be claimed. {so}"
    ]


def too_few_to_show(study: Study, images: int, reach: Reach, nothing: str, may: str) -> list[str]:
    """How many images it takes to show that there is nothing, where the study has fewer.

    Args:
        reach: how far the number can be moved that has to lie inside its margin.
        nothing: what fewer images cannot show.
        may: what is said from then on.
    """
    needed = images_for_no_effect(reach, study.effects.confidence)
    if images >= needed:
        return []
    return [
        f"{count(images, 'image')} cannot show that {nothing}: that a few others would move far is not ruled out. From "
        f"about {needed} images on, or with a wider margin than ±{reach.still:.2g} (effects.margin), {may}."
    ]


def beside_notes(study: Study, claimed: Collection[str], looked_into: Collection[str]) -> tuple[str, ...]:
    """How many claims carry no mark because nothing was looked for in their edits; nothing where there are none.

    Args:
        claimed: the features that the report says to raise or to lower the score.
        looked_into: the features in whose edits other attributes were looked for.
    """
    left = len(set(claimed) - set(looked_into))
    if not left:
        return ()
    return (
        f"The edits of {left} of {count(len(claimed), 'claim')} were not looked at for what else they change: nothing "
        f"is known of other attributes that may account for {'its effect' if left == 1 else 'their effects'}. "
        f"effects.side_effects ({study.effects.side_effects}) says how many of the strongest features are looked at.",
    )


def racing_notes(searched: Searched) -> tuple[str, ...]:
    """What racing guarantees and saved; nothing for an exhaustive search."""
    race = searched.result.race
    return () if race is None else (race.describe(),)
