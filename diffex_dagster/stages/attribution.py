"""Stage: attribution maps (Grad-CAM) before and after the edits of the strongest features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageChops

from diffex_dagster.classifying.base import BatchedClassifier
from diffex_dagster.classifying.gradcam import Differentiable, GradCam, on_picture
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.errors import DiffExError
from diffex_dagster.report.examples import BARELY
from diffex_dagster.results import Attribution, AttributionExample, Example, RankedFeature, opened
from diffex_dagster.stages.context import Subject
from diffex_dagster.stages.edits import concepts_of
from diffex_dagster.store import edit_key
from diffex_dagster.utils.hashing import digest


def attributions(
    subject: Subject, features: Sequence[RankedFeature], examples: Mapping[str, Sequence[Example]]
) -> tuple[tuple[Attribution, ...], str]:
    """Grad-CAM of the null edits and the edits of these features, and how much of it lies where the edit changed.

    A report does not depend on it: where it cannot be made, the second value says why.

    Args:
        features: which, in the order shown.
        examples: feature id -> its images.

    Returns:
        One `Attribution` a feature, and a note ("" where all went well).
    """
    features = [feature for feature in features if examples.get(feature.feature)]
    if not features:
        return (), ""
    corpus, editor, seed = subject.corpus, subject.editor.fingerprint, subject.study.seed

    def keys(feature: RankedFeature, example: Example) -> tuple[str, str]:
        """Of the null edit, and of the edit."""
        concepts = concepts_of([corpus[feature.feature]])
        return (
            edit_key(EditRequest(example.image, (), seed), editor),
            edit_key(EditRequest(example.image, concepts, seed), editor),
        )

    pairs = {f.feature: [(example, *keys(f, example)) for example in examples[f.feature]] for f in features}
    pictures: dict[str, Image.Image] = {}
    for example, null, edit in (pair for of_feature in pairs.values() for pair in of_feature):
        pictures[null], pictures[edit] = opened(example.null), opened(example.edit)
    try:
        maps = _maps(subject, pictures)
    except DiffExError as error:
        return (), str(error)
    found = [
        _attribution(f, [(each, maps[null], maps[edit]) for each, null, edit in pairs[f.feature]]) for f in features
    ]
    return tuple(found), ""


def _maps(subject: Subject, pictures: Mapping[str, Image.Image]) -> dict[str, np.ndarray]:
    """Edit key -> map at the picture's resolution, asking the classifier only for what the store does not hold."""
    store, classifier, target = subject.store, subject.classifier, subject.study.target
    of = digest(classifier.fingerprint, target.model_dump(mode="json"))  # a map is of one target
    stored = store.stored_attribution_maps(pictures, of)
    if missing := [key for key in pictures if key not in stored]:
        model = _differentiable(classifier)
        made = GradCam(model, classifier.labels, target)([pictures[key] for key in missing])
        new = {key: (each, model.crop) for key, each in zip(missing, made, strict=True)}
        store.put_attribution_maps(new, of)
        stored |= new
    return {key: on_picture(stored[key][0][None], pictures[key].size, stored[key][1])[0] for key in pictures}


def _differentiable(classifier: Classifier) -> Differentiable:
    model = classifier.differentiable() if isinstance(classifier, BatchedClassifier) else None
    if model is None:
        raise DiffExError("Grad-CAM is for torch modules, and this classifier is not one that it can look into")
    return model


def changed_region(before: Image.Image, after: Image.Image) -> np.ndarray:
    """Which pixels an edit changed visibly (some channel by more than 10 of 255 levels): bool (height, width)."""
    difference = np.asarray(ImageChops.difference(before.convert("RGB"), after.convert("RGB")))
    return np.asarray(difference.max(axis=2) > BARELY)


def _attribution(feature: RankedFeature, pairs: Sequence[tuple[Example, np.ndarray, np.ndarray]]) -> Attribution:
    """The shares over the images whose edit changed something and where the class has evidence before and after."""
    shares = []
    for example, null, edit in pairs:
        region = changed_region(opened(example.null), opened(example.edit))
        if region.any() and null.sum() > 0 and edit.sum() > 0:
            shares.append((region.mean(), null[region].sum() / null.sum(), edit[region].sum() / edit.sum()))
    changed, before, after = (float(x) for x in (np.mean(shares, axis=0) if shares else np.full(3, np.nan)))
    taken = [pair for pair in pairs if pair[0].succeeded is not False] or list(pairs)
    example, null, edit = min(taken, key=lambda pair: abs(pair[0].effect - feature.effect))
    shown = AttributionExample(example.image, opened(example.null), null, opened(example.edit), edit)
    return Attribution(feature.feature, feature.name, changed, before, after, len(shares), shown)
