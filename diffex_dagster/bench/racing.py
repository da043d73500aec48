"""What racing saves, and whether it finds the same features (`diffex bench racing`).

The effects of every feature of the study's corpus are measured once on a pool of freshly drawn avatars, by drawing each
again with only that feature changed (the exact arm: no editor's error). A *resampled study* is a random draw of images
from the pool; the same search runs on it exhaustively and racing, with nothing left to edit: what they would have
edited is counted. Effects are those of the study's classifiers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from diffex_dagster.classifying.target import measure
from diffex_dagster.corpus.tree import Corpus, Feature
from diffex_dagster.search.options import SearchOptions
from diffex_dagster.search.run import SearchResult, new_race, search
from diffex_dagster.stages.setup import build_classifier
from diffex_dagster.study import Study

POOL_SEED = 13  # no training script and no study draws from it; racing's defaults were chosen on 11
Table = Mapping[str, NDArray[np.float64]]  # feature id -> d over the pool; NULL -> the target measure before
NULL = ""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Saved:
    """One setting over its resampled studies.

    Attributes:
        classifier, images, bounds: the setting.
        studies: how many.
        same: share of studies in which both searches have the same top k, as sets.
        close: share in which every feature of racing's top k is at most 0.01 weaker than the k-th strongest.
        share: racing's edits over the exhaustive search's, over all studies.
        share_low, share_high: the 5% and 95% quantile over studies.
        features: mean number of features that the exhaustive search measured.
    """

    classifier: str
    images: int
    bounds: str
    top: int
    studies: int
    same: float
    close: float
    share: float
    share_low: float
    share_high: float
    features: float


def all_subjects(study: Study) -> dict[str, Study]:
    """Classifier -> the study with it alone and the class it explains; those of the folder `bench` as well."""
    from diffex_dagster.bench.truth import subjects

    return {
        each.name: study.changed(classifiers={each.name: each.part}, target=each.target) for each in subjects(study)
    }


def pool_effects(study: Study, corpus: Corpus, classifier: str, count: int, say: Say = lambda _: None) -> Table:
    """d of every editable feature on a pool of `count` new avatars, by exact edits."""
    from diffex_dagster.worlds.redrawing import redraw, sample_states

    judge = build_classifier(study, classifier)

    def score(pictures: list[Image.Image]) -> NDArray[np.float64]:
        return measure(np.asarray(judge(pictures)), judge.labels, study.target, study.folder)

    features = [feature for feature in corpus.walk() if feature.editable]
    changes = {feature.id: (feature.prompt, feature.direction == "remove") for feature in features}
    say(f"{classifier}: effects of {len(features)} features")
    asked = list(dict.fromkeys(changes.values()))
    drawn = redraw(sample_states(count, POOL_SEED), asked, cache=study.results_folder / "drawings")
    effects = drawn.effects(score)
    before = score([Image.fromarray(each) for each in drawn.base])
    return {NULL: before} | {feature: effects[change] for feature, change in changes.items()}


def resample(
    corpus: Corpus, table: Table, options: SearchOptions, *, images: int, studies: int, seed: int = 0
) -> list[tuple[SearchResult, SearchResult]]:
    """The exhaustive and the racing search on `studies` draws of `images` images, without replacement, from the pool.

    The joint combination is left out: it costs both searches the same.
    """
    rng = np.random.default_rng(seed)
    size = len(next(iter(table.values())))
    plain = options.replaced(allocation="exhaustive", joint_size=1)
    racing = options.replaced(allocation="racing", joint_size=1)
    found = []
    for _ in range(studies):
        drawn = rng.choice(size, images, replace=False)  # a random order, in which the race may take them
        d = {feature: values[drawn] for feature, values in table.items()}

        def score(
            combinations: Sequence[tuple[Feature, ...]], wanted: Sequence[int] | None = None, d: Table = d
        ) -> dict[tuple[str, ...], NDArray[np.float64]]:
            chosen = slice(None) if wanted is None else np.asarray(wanted)
            return {(feature.id,): d[feature.id][chosen] for (feature,) in combinations}

        race = new_race(corpus, range(images), racing, before=d[NULL].tolist())
        found.append((search(corpus, score, plain), search(corpus, score, racing, race=race)))
    return found


def strongest(result: SearchResult, top: int) -> list[str]:
    """The features with the largest |mean d| among those measured on all images, as the report ranks them."""
    finalists = result.race.finalists() if result.race else list(result.scores)
    return sorted(finalists, key=lambda feature: -abs(float(np.mean(result.scores[feature]))))[:top]


def summarise(
    pairs: Sequence[tuple[SearchResult, SearchResult]], classifier: str, images: int, options: SearchOptions
) -> Saved:
    """Agreement and edits of one setting."""
    same, close, shares, whole, raced = [], [], [], 0, 0
    for exhaustive, racing in pairs:
        truth = {feature: abs(float(np.mean(d))) for feature, d in exhaustive.scores.items()}
        right, ours = strongest(exhaustive, options.racing_top), strongest(racing, options.racing_top)
        same.append(set(right) == set(ours))
        weakest = truth[right[-1]]
        close.append(all(truth.get(feature, 0.0) >= weakest - 0.01 for feature in ours))
        shares.append(racing.edits / exhaustive.edits)
        whole, raced = whole + exhaustive.edits, raced + racing.edits
    low, high = np.quantile(shares, [0.05, 0.95])
    return Saved(
        classifier, images, options.racing_bounds, options.racing_top, len(pairs), float(np.mean(same)),
        float(np.mean(close)), raced / whole, float(low), float(high),
        float(np.mean([len(exhaustive.scores) for exhaustive, _ in pairs])),
    )  # fmt: skip


def pool_tables(study: Study, corpus: Corpus, every: bool, count: int, say: Say = lambda _: None) -> dict[str, Table]:
    """Classifier -> `pool_effects` of it, for each of the study's.

    Args:
        every: also for the classifiers of the study's folder `bench`.
        count: avatars that are drawn and edited exactly.
    """
    chosen = all_subjects(study) if every else {name: study.for_classifier(name) for name in study.classifiers}
    return {name: pool_effects(of, corpus, name, count, say) for name, of in chosen.items()}


def measure_savings(
    corpus: Corpus,
    tables: Mapping[str, Table],
    settings: Sequence[SearchOptions],
    images: Sequence[int],
    studies: int,
    say: Say = lambda _: None,
) -> list[Saved]:
    """Run the benchmark for each classifier, number of images, and setting.

    Args:
        tables: as of `pool_tables`; the studies are drawn from them.
        settings: of the race.
        images: images a study.
        studies: resampled studies a setting.
    """
    saved = []
    for classifier, table in tables.items():
        for count in images:
            for setting in settings:
                say(f"{classifier}: {studies} studies of {count} images, {setting.racing_bounds} bounds")
                pairs = resample(corpus, table, setting, images=count, studies=studies)
                saved.append(summarise(pairs, classifier, count, setting))
    return saved


def as_json(saved: Sequence[Saved]) -> list[dict[str, Any]]:
    """One object a setting."""
    return [asdict(each) for each in saved]


def as_markdown(saved: Sequence[Saved]) -> str:
    """The table of docs/speed.md."""
    lines = [
        "| classifier | images | bounds | racing's edits (5% to 95% of studies) | same top k | top k within 0.01 |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {s.classifier} | {s.images} | {s.bounds} | {s.share:.0%} ({s.share_low:.0%} to {s.share_high:.0%}) | "
        f"{s.same:.1%} | {s.close:.1%} |"
        for s in saved
    ]
    return "\n".join(lines) + "\n"
