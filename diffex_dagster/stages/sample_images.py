"""Stage: read the sample images, choose among them, and prepare them for the editor."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.special import softmax

from diffex_dagster.classifying.asking import outputs_of
from diffex_dagster.classifying.measures.base import class_index
from diffex_dagster.classifying.protocol import Classifier
from diffex_dagster.errors import ClassifierError, StudyError
from diffex_dagster.images.files import MORE, read_picture, why_unreadable
from diffex_dagster.images.finding import find_images, left_out_in_words
from diffex_dagster.images.sources.parts import Entry, Found
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.store import Store, image_key
from diffex_dagster.study import Study
from diffex_dagster.utils.hashing import digest, file_fingerprint


class Prepared(Mapping[str, Image.Image]):
    """Prepared pictures by name, each decoded when it is looked up: all of them at once may not fit into memory."""

    def __init__(self, reads: Mapping[str, Callable[[], Image.Image]]) -> None:
        self.reads = reads

    def __getitem__(self, name: str) -> Image.Image:
        return self.reads[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self.reads)

    def __len__(self) -> int:
        return len(self.reads)

    def only(self, names: Iterable[str]) -> Prepared:
        """Those with these names, in their order."""
        return Prepared({name: self.reads[name] for name in names})


BATCH = 64  # pictures that a classifier is asked about at a time


@dataclass
class Samples:
    """The sample images of a study, by name and prepared, and what was left out."""

    pictures: Prepared = field(default_factory=lambda: Prepared({}))
    image_keys: dict[str, str] = field(default_factory=dict)  # name -> key of the prepared picture
    labels: dict[str, str | None] = field(default_factory=dict)
    columns: dict[str, Mapping[str, str | None]] = field(default_factory=dict)  # name -> what a table says of it
    unreadable: list[tuple[str, str]] = field(default_factory=list)  # (name, why)
    keys: dict[str, str] = field(default_factory=dict)  # image key -> name, once they are stored
    equal: dict[str, str] = field(default_factory=dict)  # name -> name of the same picture before it
    left_out: dict[str, list[str]] = field(default_factory=dict)  # reason -> files and rows that are no sample pictures
    notes: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """How many pictures there are, and what was left out and why, in one line."""
        said = left_out_in_words(self.left_out)
        if self.unreadable:
            some = "; ".join(f"{name}: {why}" for name, why in self.unreadable[:5])
            more = "; …" if len(self.unreadable) > 5 else ""
            said.insert(0, f"{len(self.unreadable)} unreadable ({some}{more})")
        if self.equal:
            pairs = ", ".join(f"{name} = {first}" for name, first in list(self.equal.items())[:3])
            said.insert(0, f"{len(self.equal)} equal to another ({pairs}{', …' if len(self.equal) > 3 else ''})")
        count = len(self.pictures) - len(self.equal)
        images = f"{count} image{'' if count == 1 else 's'}"
        return "; ".join([images + (f"; left out: {', '.join(said)}" if said else ""), *self.notes])


def images_of(study: Study) -> Found:
    """Every image that a study names, none opened yet; see `images.finding`.

    Raises:
        StudyError: what the study names is missing or holds no image.
    """
    return find_images(study.images, study.file, study.effects.subgroups)


def read_samples(
    study: Study, classifier: Callable[[str], Classifier] | None = None, first: int | None = None
) -> Samples:
    """Find, filter, draw and decode the images of a study.

    In this order: labels, the random sample or the first `limit`, decoding, the classifier's own prediction. With a
    filter by prediction every candidate is decoded first, and the sample is drawn from those that pass.

    Args:
        study: names the images.
        classifier: one of the study's classifiers by name; needed for `images.predicted`.
        first: only so many of them, before any filter by prediction: for a first look, without a classifier.

    Raises:
        StudyError: nothing is there or is left, or more files than the study allows cannot be read (they are named).
        ClassifierError: the filter's classifier cannot be used, or lacks the class.
    """
    images, found = study.images, images_of(study)
    if images.predicted is None or first is not None:
        return _told(_read(study, _chosen(study, found.entries)[:first]), found)
    assert classifier is not None
    samples = _read(study, found.entries)
    passed = _predicted(study, samples, classifier(images.predicted.classifier))
    chosen = _chosen(study, [entry for entry in found.entries if entry.name in passed])
    samples.pictures = samples.pictures.only(entry.name for entry in chosen)
    return _told(samples, found)


def count_samples(study: Study) -> int | None:
    """How many images a study takes at most, none of them decoded; None where a classifier filters them.

    Raises:
        StudyError: nothing is there.
    """
    return None if study.images.predicted else len(_chosen(study, images_of(study).entries))


def _told(samples: Samples, found: Found) -> Samples:
    """With what the source left out, and which pictures are the same as one before them."""
    samples.left_out, samples.notes = found.left_out, [*found.notes, *samples.notes]
    first: dict[str, str] = {}
    for name in samples.pictures:
        same = first.setdefault(samples.image_keys[name], name)
        if same != name:
            samples.equal[name] = same
    labels = [(name, same) for name, same in samples.equal.items()
              if samples.labels.get(name) != samples.labels.get(same)]  # fmt: skip
    if labels:
        name, same = labels[0]
        samples.notes.append(
            f"{len(labels)} of the equal pictures have different labels, first {same} ({samples.labels.get(same)}) and "
            f"{name} ({samples.labels.get(name)}): the first one's counts"
        )
    return samples


def sample_images(work: StudyContext) -> Samples:
    """Keep the study's sample images; pictures with equal content count once."""
    study, store = work.study, work.store
    if study.file.is_file():
        store.claim(study.kept_as, study.file)
    samples = read_samples(study, lambda name: work.subject(name).classifier)
    samples.keys = keep_samples(study, store, samples.pictures, samples.columns)
    return samples


def keep_samples(
    study: Study,
    store: Store,
    pictures: Mapping[str, Image.Image],
    columns: Mapping[str, Mapping[str, str | None]] | None = None,
) -> dict[str, str]:
    """Make prepared pictures (name -> picture) the study's sample images; returns image key -> name, in order.

    Args:
        columns: name -> what a table says of the picture, in the columns that the study names.
    """
    keys: dict[str, str] = {}
    for name, key in store.put_images(pictures).items():
        keys.setdefault(key, name)
    store.put_samples(study.kept_as, keys)
    store.put_image_columns(study.kept_as, {key: (columns or {}).get(name, {}) for key, name in keys.items()})
    return keys


def samples_version(keys: Mapping[str, str], columns: Mapping[str, Mapping[str, str | None]] | None = None) -> str:
    """Hash of which sample images (key -> name) a study is made on, in their order.

    Args:
        columns: key -> what a table says of the image, where the study has subgroups (`Store.image_columns`).
    """
    return digest(list(keys.items()), *([{key: dict(row) for key, row in columns.items()}] if columns else []))


def images_version(study: Study) -> str:
    """Hash of the names, labels and contents of the study's image files, in their order. No picture is decoded.

    Raises:
        StudyError: what the study names is missing.
    """
    seen: list[tuple[str, str | None, str]] = []
    for entry in images_of(study).entries:
        if isinstance(entry.content, Path):
            content = file_fingerprint(entry.content) if entry.content.is_file() else "none"
        else:
            content = hashlib.sha256(entry.content).hexdigest()
        seen.append((entry.name, entry.label, content))
        if entry.columns:
            seen.append((entry.name, None, repr(sorted(entry.columns.items()))))
    return hashlib.sha256(repr(seen).encode()).hexdigest()[:16]


def _read(study: Study, entries: Sequence[Entry]) -> Samples:
    samples, images = Samples(), study.images
    reads: dict[str, Callable[[], Image.Image]] = {}
    more: list[str] = []
    for entry in entries:
        try:
            read = partial(read_picture, entry.content, images.size, images.fit, images.background)
            picture = read()
            samples.image_keys[entry.name] = image_key(picture)
        except (MemoryError, KeyboardInterrupt):
            raise
        except Exception as error:  # a decoder's, of any kind: the file is left out with its reason
            address = "://" in entry.name and isinstance(error, FileNotFoundError)
            why = "an address, not a file: download it" if address else why_unreadable(error)
            samples.unreadable.append((entry.name, why))
            continue
        reads[entry.name], samples.labels[entry.name] = read, entry.label
        samples.columns[entry.name] = entry.columns
        if picture.info.get(MORE):
            more.append(entry.name)
    samples.pictures = Prepared(reads)
    if more:
        samples.notes.append(
            f"{len(more)} with several frames or pages ({', '.join(more[:3])}{', …' if len(more) > 3 else ''}): "
            "the first is used"
        )
    _check_unreadable(study, samples.unreadable, len(entries))
    return samples


def _check_unreadable(study: Study, unreadable: Sequence[tuple[str, str]], count: int) -> None:
    if len(unreadable) <= study.images.unreadable * count and len(unreadable) < count:
        return
    shown = "; ".join(f"{name}: {why}" for name, why in unreadable[:5]) + ("; ..." if len(unreadable) > 5 else "")
    raise StudyError(
        f"{study.file}: images.{study.images.kind.source}: {len(unreadable)} of {count} files cannot be read as "
        f"pictures ({shown}); replace or remove them, or raise images.unreadable ({study.images.unreadable:g})"
    )


def _chosen(study: Study, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that are used: the first `limit`, or a random sample (by the study's seed) in the original order."""
    images = study.images
    entries = list(entries[: images.limit])
    if images.sample is None or images.sample >= len(entries):
        return entries
    generator = random.Random(study.seed)
    if not images.stratify:
        drawn = set(generator.sample(range(len(entries)), images.sample))
    else:
        strata: dict[str | None, list[int]] = {}
        for i, entry in enumerate(entries):
            strata.setdefault(entry.label, []).append(i)
        if set(strata) == {None}:
            raise StudyError(
                f"{study.file}: images.stratify: no image has a label; name a table or dataset with a label_column"
            )
        for stratum in strata.values():
            generator.shuffle(stratum)
        # One of each label in turn until the sample is full, so that a label with few images gives all it has.
        turns = [
            stratum[turn] for turn in range(max(map(len, strata.values()))) for stratum in strata.values()
            if turn < len(stratum)
        ]  # fmt: skip
        drawn = set(turns[: images.sample])
    return [entry for i, entry in enumerate(entries) if i in drawn]


def _predicted(study: Study, samples: Samples, classifier: Classifier) -> set[str]:
    """Names of the images that pass the filter by prediction."""
    wanted = study.images.predicted
    assert wanted is not None
    column = None
    if wanted.label is not None:
        try:
            column = class_index(classifier.labels, wanted.label)
        except ClassifierError as error:
            raise ClassifierError(f"{study.file}: images.predicted: {error}") from error
    names = list(samples.pictures)
    batches = [names[start : start + BATCH] for start in range(0, len(names), BATCH)]
    outputs = [outputs_of(classifier, [samples.pictures[name] for name in batch]) for batch in batches]
    probabilities = softmax(np.concatenate(outputs), axis=1)
    classes, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    keep = (confidence >= wanted.min_confidence) & (confidence <= wanted.max_confidence)
    if column is not None:
        keep &= classes == column
    if not keep.any():
        counts = np.bincount(classes, minlength=len(classifier.labels))
        said = ", ".join(f"{classifier.labels[i]} {counts[i]}" for i in np.argsort(-counts)[:5] if counts[i])
        raise StudyError(
            f"{study.file}: images.predicted: none of {len(classes)} images passes ({said}; confidence "
            f"{confidence.min():.2f} to {confidence.max():.2f}); relax the filter or add images"
        )
    return {name for name, kept in zip(samples.pictures, keep, strict=True) if kept}
