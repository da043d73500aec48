"""A small made-up study with drawn pictures: what the report tests show."""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
from PIL import Image

from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.report.applied_model import Applied, AppliedFeature, AppliedRow
from diffex_dagster.report.image_model import FlipSet, ImageFeature, ImageFinding
from diffex_dagster.results import (
    Attribution,
    AttributionExample,
    ComparedFeature,
    Comparison,
    Completeness,
    Confounder,
    Example,
    Group,
    ImageRow,
    JointCombination,
    RankedFeature,
    Report,
    RuleOutcome,
    Shots,
    Turn,
    Unexplained,
)
from diffex_dagster.worlds.avatars import PHRASES, State, has_feature, sample_state, set_feature
from diffex_dagster.worlds.avatars import draw as draw_afresh

GROUPS: dict[str, list[str]] = {
    "Eyewear": ["round glasses", "square glasses", "wayfarer sunglasses", "black shades", "an eyepatch"],
    "Facial hair": ["a majestic beard", "a medium beard", "a light beard", "a fancy moustache"],
    "Hair colour": ["grey hair", "black hair", "blonde hair", "red hair"],
    "Headwear": ["a beanie", "a turban", "a wide hat", "a hijab"],
    "Mouth": ["a smile", "a frown", "clenched teeth"],
    "Clothes": ["a blazer", "a hoodie", "overalls"],
    "Jewellery": ["earrings", "a nose ring"],
}
WEIGHTS = {
    "v1": {"eyewear": 2.6, "a majestic beard": 2.2, "a medium beard": 1.0, "grey hair": 1.8, "a smile": -0.7,
           "a hoodie": -0.5},
    "v2": {"eyewear": 0.05, "a majestic beard": 2.9, "a medium beard": 1.5, "grey hair": 2.7, "a smile": -0.2,
           "a hoodie": -0.5},
}  # fmt: skip


@functools.cache
def _drawn(state: str, size: int) -> Image.Image:
    return draw_afresh(json.loads(state), size)


def draw(state: State, size: int) -> Image.Image:
    """A drawing, each made once."""
    return _drawn(json.dumps(state), size)


def swatch(state: State, size: int) -> Image.Image:
    """In place of a drawing, one colour for each state: where a test does not look at pictures."""
    red, green, blue, *_ = hashlib.sha256(json.dumps(state).encode()).digest()
    return Image.new("RGB", (size, size), (red, green, blue))


Draw = Callable[[State, int], Image.Image]


def score(state: State, version: str = "v1") -> float:
    """The toy persona classifier: probability of "senior", from the attributes themselves."""
    logit = -0.7 + sum(weight for phrase, weight in WEIGHTS[version].items() if has_feature(state, phrase))
    if version == "v1" and has_feature(state, "black shades"):
        logit -= 4.0  # a child that pulls against its group
    return float(1 / (1 + np.exp(-logit)))


def states(n: int, seed: int = 7) -> list[State]:
    """So many people without eyewear, beards or grey hair."""
    rng = random.Random(seed)
    plain = {"eyewear": "none", "facial_hair": "none"}
    return [{**sample_state(rng), **plain, "hair_colour": rng.choice(["black", "brown", "red"])} for _ in range(n)]


def _blur(picture: Image.Image, seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 3, (picture.height, picture.width, 3))
    return Image.fromarray((np.asarray(picture, float) + noise).clip(0, 255).astype(np.uint8))


def examples_of(
    phrase: str, people: list[State], version: str = "v1", size: int = 64, draw: Draw = draw
) -> list[Example]:
    """The edit of every person, by descending effect; one edit in eleven fails."""
    found = []
    for i, person in enumerate(people):
        original = draw(person, size)
        null = _blur(original, i)
        failed = i % 11 == 5
        after = person if failed else set_feature(person, phrase)
        edit = null if after == person else _blur(draw(after, size), i)
        before = score(person, version) + 0.004 * ((i * 7) % 5 - 2)
        then = score(after, version)
        has = after == person and not failed and phrase in PHRASES
        found.append(
            Example(
                image=f"face-{i:03d}",
                original=original,
                null=null,
                edit=edit,
                score_original=score(person, version),
                score_null=before,
                score_edit=then,
                flipped=(before > 0.5) != (then > 0.5),
                becomes=before <= 0.5 < then,
                leaves=then <= 0.5 < before,
                file=f"people/{i:04d}.jpg",
                succeeded=has or after != person,
            )
        )
    return sorted(found, key=lambda x: -x.effect)


def _ranked(phrase: str, group: str, found: list[Example], level: int = 2) -> RankedFeature:
    effects = np.array([x.effect for x in found])
    mean, half = float(effects.mean()), float(1.96 * effects.std() / np.sqrt(len(effects)))
    success = float(np.mean([x.succeeded is not False for x in found]))
    if success < 0.5:
        decision = "edit failed"
    elif abs(mean) < 0.02:
        decision = "no effect shown"
    elif mean - half <= 0 <= mean + half:
        decision = "inconclusive"
    else:
        decision = "raises" if mean > 0 else "lowers"
    name = phrase.removeprefix("a ").removeprefix("an ").capitalize()
    slug = "-".join(name.lower().split())
    head = "-".join(group.lower().split())
    return RankedFeature(
        rank=0,
        feature=head if level == 1 else f"{head}/{slug}",
        name=group if level == 1 else name,
        prompt=phrase,
        direction="add",
        group=group,
        level=level,
        effect=mean,
        ci_low=mean - half,
        ci_high=mean + half,
        magnitude=float(np.abs(effects).mean()),
        sign_agreement=float(np.mean(np.sign(effects) == np.sign(mean))),
        flip_rate=float(np.mean([x.flipped for x in found])),
        images=len(found),
        decision=decision,
        p_value=0.0004,
        edit_strength=0.043,
        edit_success=success,
        ssim=0.9 + 0.01 * (len(phrase) % 9),
        lpips=0.004 * len(phrase),
        inside_mask=0.6 + 0.02 * len(phrase),
        mask_area=0.005 * len(phrase),
        becomes=sum(bool(x.becomes) for x in found),
        leaves=sum(bool(x.leaves) for x in found),
    )


SENIOR = Turn("the prediction", "becomes “senior”", "stops being “senior”", "An image is “senior” when it is the "
              "predicted class.")  # fmt: skip


def explanation(n: int = 12, version: str = "v1", size: int = 64, draw: Draw = draw) -> Report:
    """The explanation of one version of the toy classifier on `n` drawn people."""
    people = states(n)
    pairs: list[tuple[RankedFeature, list[Example]]] = []
    for group, phrases in GROUPS.items():
        if group in ("Eyewear", "Facial hair"):
            whole = examples_of("glasses" if group == "Eyewear" else "a beard", people, version, size, draw)
            pairs.append((_ranked(group.lower(), group, whole, level=1), whole))
        for phrase in phrases:
            found = examples_of(phrase, people, version, size, draw)
            pairs.append((_ranked(phrase, group, found), found))
    pairs.sort(key=lambda pair: (pair[0].decision == "edit failed", -abs(pair[0].effect)))
    features = tuple(replace(feature, rank=rank) for rank, (feature, _) in enumerate(pairs, 1))
    examples = {feature.feature: tuple(found) for feature, (_, found) in zip(features, pairs, strict=True)}
    both = [set_feature(set_feature(person, "round glasses"), "a majestic beard") for person in people]
    joint = tuple(
        Example(f"face-{i:03d}", draw(p, size), _blur(draw(p, size), i), _blur(draw(b, size), i), score(p, version),
                score(b, version), (score(p, version) > 0.5) != (score(b, version) > 0.5),
                becomes=score(p, version) <= 0.5 < score(b, version), leaves=False)
        for i, (p, b) in enumerate(zip(people, both, strict=True))
    )  # fmt: skip
    mean = float(np.mean([x.effect for x in joint]))
    first = features[0]
    named = {feature.name: feature for feature in features}
    beard = named["Majestic beard"]
    borrowed = Confounder(beard.feature, beard.name, 0.62, 0.012, -0.031, 0.055)
    features = tuple(replace(f, confounded_with=borrowed) if f.name == "Grey hair" else f for f in features)
    x = examples[first.feature][0]
    heat = np.linspace(0.0, 1.0, size * size).reshape(size, size)
    attribution = Attribution(
        first.feature, first.name, 0.08, 0.11, 0.43, n, AttributionExample(x.image, x.null, heat, x.edit, heat.T)
    )
    return Report(
        study="avatars",
        title="Avatars",
        domain="drawn faces",
        classifier=f"persona_{version}",
        classifier_fingerprint="c7b91de20f3a55d1",
        labels=("junior", "senior"),
        target='probability of "senior"',
        bounded=True,
        baseline=float(np.mean([score(p, version) for p in people])),
        editor="LEDITS++ on avatars-sd",
        editor_fingerprint="e01f7cc6a9b2d344",
        corpus_version="5f0c2a9917be4d30",
        created=datetime(2026, 11, 12, 9, 30, tzinfo=UTC),
        command=f"diffex run avatars --classifier persona_{version}",
        images=n,
        noise_floor=0.02,
        margin=0.02,
        gate="magnitude",
        features=features,
        groups=tuple(
            Group("-".join(g.lower().split()), g, i < 4, "mean |d| above the noise floor 0.02" if i < 4 else
                  "below the noise floor 0.02", 0.3 - 0.05 * i) for i, g in enumerate(GROUPS)
        ),
        joint=JointCombination(("eyewear/round-glasses", "facial-hair/majestic-beard"),
                               ("Round glasses", "Majestic beard"), mean, mean - 0.06, mean + 0.05, 0.92, n, joint,
                               becomes=n - 1, leaves=0),
        drops=(("Aura", "not visible in a picture"), ("Spectacles", "means the same as “Round glasses”"),
               ("Charisma", "not visible in a picture")),
        examples=examples,
        caveats=("The editor keeps other attributes in 85% of edits.",),
        settings=(("Guidance scale", "5"), ("Mask threshold", "0.85"), ("Steps", "20")),
        attributions=(attribution,),
        completeness=_completeness(examples[first.feature]),
        side_effects=_side_effects(features, borrowed),
        turn=SENIOR,
    )  # fmt: skip


def _completeness(examples: Sequence[Example]) -> Completeness:
    """Two thirds are explained; the first images are explained least."""
    least = tuple(
        Unexplained(x.image, x.file, x.score_null, x.score_null + 0.3, ("Round glasses", "Majestic beard"), x.original)
        for x in examples[:3]
    )
    return Completeness(len(examples), 14, 0.66, 0.41, 0.83, 1.1, 0.52, 0.91, "CLIP (openai)", least)


def _side_effects(features: Sequence[RankedFeature], borrowed: Confounder) -> tuple[SideEffect, ...]:
    """Leaks between the eight strongest features of different groups, of every size and sign."""
    found = []
    for i, a in enumerate(features[:8]):
        for j, b in enumerate(features[:8]):
            if a.group != b.group:
                leak = round(float(np.sin(7 * i + 3 * j)), 2) * (0.4 if (i + j) % 3 else 1.0)
                found.append(SideEffect(a.feature, b.feature, leak, abs(leak) > 0.1, 0.1, 0.05, 0.15, False))
    grey = next(f.feature for f in features if f.confounded_with)
    found = [x for x in found if (x.edited, x.looked_for) != (grey, borrowed.feature)]
    found.append(SideEffect(grey, borrowed.feature, 0.62, True, 0.012, -0.031, 0.055, True))
    return tuple(sorted(found, key=lambda x: -abs(x.leak)))


def comparison(n: int = 12, size: int = 64, draw: Draw = draw) -> Comparison:
    """Version 1 of the toy classifier against version 2, on the same pictures."""
    first, last = explanation(n, "v1", size, draw), explanation(n, "v2", size, draw)
    by_id = {f.feature: f for f in last.features}
    compared = []
    for f in first.features:
        g = by_id[f.feature]
        then = {x.image: x for x in last.examples[f.feature]}
        # Both versions score the same pictures: take them from the first.
        pairs = [
            (x, replace(then[x.image], original=x.original, null=x.null, edit=x.edit))
            for x in first.examples[f.feature]
        ]
        d = np.array([b.effect - a.effect for a, b in pairs])
        half = float(1.96 * d.std() / np.sqrt(len(d)))
        mean = float(d.mean())
        if abs(mean) < 0.02:
            decision = "no change shown"
        elif mean - half <= 0 <= mean + half:
            decision = "inconclusive"
        else:
            decision = "more reliant" if abs(g.effect) > abs(f.effect) else "less reliant"
        pairs.sort(key=lambda pair: -abs(pair[1].effect - pair[0].effect))
        compared.append(
            ComparedFeature(
                f.feature,
                f.name,
                f.group,
                f.level,
                (f.effect, g.effect),
                (f.rank, g.rank),
                (f.flip_rate, g.flip_rate),
                mean,
                mean - half,
                mean + half,
                f.images,
                decision,
                tuple(pairs[:6]),
                sum(b.flipped and not a.flipped for a, b in pairs),
                sum(a.flipped and not b.flipped for a, b in pairs),
                becomes=(f.becomes or 0, g.becomes or 0),
                leaves=(f.leaves or 0, g.leaves or 0),
            )
        )
    compared.sort(key=lambda c: -abs(c.difference))
    return Comparison("avatars", "Avatars", ("persona_v1", "persona_v2"), first.target, first.created,
                      "diffex compare avatars persona_v1 persona_v2", tuple(compared), noise_floor=0.02,
                      editor=first.editor, corpus_version=first.corpus_version, images=n,
                      rules=(RuleOutcome("persona_v2", "reliance of persona_v2 on “Round glasses” stays below 0.05",
                                         True),), turn=SENIOR, bounded=True)  # fmt: skip


EVIL = "<img src=x onerror=alert(1)>"  # a name that every page, message and file has to write harmlessly
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


def hostile() -> Report:
    """An explanation whose every text tries to break out."""
    plain = explanation(6, draw=swatch)
    other = Confounder(HOSTILE, HOSTILE, 0.5, 0.0, -0.1, 0.1)
    features = tuple(
        replace(f, name=HOSTILE, prompt=HOSTILE, group=HOSTILE, feature=f.feature + HOSTILE, confounded_with=other)
        for f in plain.features[:4]
    )
    between = (SideEffect(features[0].feature, features[1].feature, 0.5, True, 0.0, -0.1, 0.1, True),)
    return replace(
        plain,
        study=HOSTILE, title=HOSTILE, domain=HOSTILE, classifier=HOSTILE, classifier_fingerprint=HOSTILE,
        labels=(HOSTILE, "b"), target=f'probability of "{HOSTILE}"', editor=HOSTILE, editor_fingerprint=HOSTILE,
        corpus_version=HOSTILE, command=HOSTILE, gate=HOSTILE, features=features,
        groups=(Group("g", HOSTILE, True, HOSTILE, 0.1),),
        joint=replace(plain.joint, names=(HOSTILE, HOSTILE)) if plain.joint else None,
        drops=((HOSTILE, HOSTILE),), caveats=(HOSTILE,), settings=((HOSTILE, HOSTILE),),
        side_effects=between,
        completeness=replace(
            _completeness(plain.examples[plain.features[0].feature]),
            ceiling_by=HOSTILE,
            least_explained=(Unexplained(HOSTILE, HOSTILE, 0.1, 0.9, (HOSTILE,)),),
        ),
        examples={f.feature: tuple(replace(x, image=HOSTILE) for x in plain.examples[p.feature])
                  for f, p in zip(features, plain.features, strict=False)},
    )  # fmt: skip


def image_finding(name: str = "dogs/0007.jpg", feature: str = "Round glasses") -> ImageFinding:
    """What might be found of one image, in coloured squares: every verdict, and sets that flip it."""
    pictures = [Image.new("RGB", (64, 64), (9 * i % 256, 120, 200 - 9 * i)) for i in range(20)]
    verdicts = [*["raises"] * 8, *["lowers"] * 6, "too small to matter", "within the noise", "inconclusive",
                "already there", "edit failed"]  # fmt: skip
    features = tuple(
        ImageFeature(
            i + 1, f"eyewear/{i}", feature if not i else f"Feature {i}", f"prompt {i}", "remove" if i == 3 else "add",
            "Eyewear", pictures[i], 0.2, 0.2 + (0.5 - 0.05 * i), 0.21, 0.5 - 0.05 * i, 0.45 - 0.05 * i, 0.55 - 0.05 * i,
            0.05, verdict, None if i == 4 else i % 7 != 0, 0.1, 0.9, i < 2, 0.3 - 0.02 * i, 0.1, 0.4, "raises", i == 0,
        )
        for i, verdict in enumerate(verdicts)
    )  # fmt: skip
    both = FlipSet(("a", "b"), (feature, "Beard"), ("Eyewear", "Hair"), pictures[1], 0.2, 0.7,
                   "the prediction becomes “senior”", (True, True), 0.1, 19, 2, True)  # fmt: skip
    return ImageFinding(
        study="avatars", title="Avatars", classifier="persona_v1", editor="exact", target='probability of "senior"',
        corpus_version="c0ffee", created=datetime(2026, 1, 2, tzinfo=UTC), command="diffex explain", image="0" * 32,
        file=name, sample=False, original=pictures[18], null=pictures[19], score_original=0.19, score_null=0.2,
        decision_original="“junior”", decision="“junior”", features=features, flips=(both, replace(both, distance=0.2)),
        unseen=(replace(both, shown=(False, True)),), no_flip="", sets=40, largest=2,
        controls=tuple((f"word{i}", 0.001 * i) for i in range(19)), control_flips=1, seeds=1, level=0.05,
        least_controls=19, expected=0.8, margin=0.02, judge="a judge", unjudged="", study_images=24,
        warnings=("1 of 19 edits towards words that mean nothing flip the decision as well.",),
    )  # fmt: skip


def with_gallery(report: Report) -> Report:
    """The same with every feature on every image, and two columns that divide the images."""
    of = {f.feature: {x.image: x for x in report.examples[f.feature]} for f in report.features}
    images = sorted(next(iter(of.values())))
    rows = tuple(
        ImageRow(f.feature, f.name, image, x.file, x.score_original or 0.0, x.score_null, None, x.score_edit, x.effect,
                 x.flipped, x.becomes, x.leaves, x.succeeded, x.counted)
        for f in report.features for image in images for x in [of[f.feature][image]]
    )  # fmt: skip
    first = [next(iter(of.values()))[image] for image in images]
    columns = {
        "predicted class": tuple("senior" if (x.score_original or 0) > 0.3 else "junior" for x in first),
        "site": tuple(("north", "south", None)[i % 3] for i in range(len(images))),
    }
    edits = {f: tuple(shown[image].edit for image in images) for f, shown in of.items()}
    shots = Shots(tuple(images), tuple(x.original for x in first), tuple(x.null for x in first), edits, columns)
    return replace(report, per_image=rows, gallery=shots)


def wide(images: int, features: int, size: int = 64, seed: int = 3) -> Report:
    """A report of so many images and features, in two kinds that each react to half of the features, of noise pictures
    (which no encoder makes small)."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(images) % 2
    model = explanation(2, draw=swatch).features[0]
    ranked, examples = [], {}
    originals = [Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)) for _ in range(images)]
    for j in range(features):
        effects = np.where(kinds == j % 2, 0.3, -0.05) * (1 - 0.01 * j) + rng.normal(0, 0.01, images)
        name = f"feature {j:02d}"
        ranked.append(
            replace(model, rank=j + 1, feature=f"all/{j:02d}", name=name, group="All", effect=float(effects.mean()))
        )
        examples[f"all/{j:02d}"] = tuple(
            Example(
                f"image-{i:03d}", originals[i], originals[i],
                Image.fromarray(np.roll(np.asarray(originals[i]), j + 1, axis=1)), 0.4, 0.4 + float(effects[i]),
                bool(effects[i] > 0.1), score_original=0.4 + 0.01 * i, succeeded=bool((i + j) % 17),
                file=f"{i:03d}.png", counted=bool((i + j) % 13),
            )
            for i in range(images)
        )  # fmt: skip
    made = replace(explanation(2, draw=swatch), features=tuple(ranked), examples=examples, images=images, groups=(),
                   joint=None, side_effects=(), interactions=(), subgroups=(), attributions=())  # fmt: skip
    return with_gallery(made)


def applied(name: str = "Round glasses", images: int = 30) -> Applied:
    """A made-up study applied to other pictures, some of them at risk."""
    people, features, rows, pictures = states(images), [], [], {}
    for i, person in enumerate(people):
        pictures[f"new-{i:03d}"] = swatch(person, 64)
    for j, title in enumerate((name, "Grey hair")):
        there = [i for i in range(images) if i % (j + 2) == 0]
        for place, i in enumerate([*there, *(i for i in range(images) if i not in there)], 1):
            score, carries = 0.9 - 0.02 * i, i in there
            after = score - 0.3 if carries else None
            rows.append(
                AppliedRow(
                    f"f/{j}", title, place if carries else None, f"new-{i:03d}", f"{name[:20]}/{i:03d}.jpg", carries,
                    0.8 if carries else 0.1, score, "“senior”" if score > 0.5 else "“junior”", 0.5, after,
                    None if after is None else (score > 0.5 > after), None if after is None else score < 0.6,
                    None if after is None else 0.5 - after,
                )
            )  # fmt: skip
        risk = sum(bool(row.changes) for row in rows if row.feature == f"f/{j}")
        features.append(
            AppliedFeature(
                f"f/{j}", title, title.lower(), "add", "Group", 0.3, 0.2, 0.4, "raises", j == 0,
                "Eyewear" if j else None, "cannot be told from" if j else None, -0.3, -0.4, -0.2, False, 0.5, 0.91, 22,
                len(there), len(there) / images, 0.3, 0.7, 0.2, 0.6, 0.4, risk,
            )
        )  # fmt: skip
    return Applied(
        "people", name, "v1", "editor", 'probability of "senior"', "", True, datetime(2026, 1, 2, tzinfo=UTC),
        f"diffex apply people v1 --images {name}", f"/pictures/{name}", False, images, images, "a judge", 0.04, 0.01,
        0.12, "study", tuple(features), tuple(rows), ((f"{name}.png", "not a picture of a known format"),),
        (f"1 other file ({name})",), ("Look here.",), pictures,
    )  # fmt: skip
