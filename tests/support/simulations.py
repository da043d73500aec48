"""Simulated studies: how often the intervals and decisions of `effects/` are wrong where the truth is known.

`python -m tests.support.simulations` prints the tables of docs/validity.md (about two minutes on one core); the slow
tests call the same functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from diffex_dagster.effects.deciding import decide, furthest_moves
from diffex_dagster.effects.options import DecisionOptions
from diffex_dagster.effects.paired import Reach, images_that_undo, interval, unseen_bounds
from diffex_dagster.effects.placebo import exchanges, placebo_effects
from diffex_dagster.effects.signflip import adjust_by, adjust_ebh, e_values, sign_flips
from diffex_dagster.effects.splitting import split

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def sigmoid(z: Array) -> Array:
    return np.asarray(1.0 / (1.0 + np.exp(-z)))


def _logit_shift(mean: float, spread: float, shift: float) -> Draw:
    """Probability moved by a constant shift of the logit, images at N(mean, spread)."""

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        z = rng.normal(mean, spread, size)
        return sigmoid(z + shift) - sigmoid(z)

    return draw


# Shapes of effects on a probability: bounded, skewed, zero on many images.
SHAPES: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(0.1, 0.1, size),
    "logit shift, images around 0.5": _logit_shift(0, 2, 1.5),
    "logit shift, images near 0.05": _logit_shift(-3, 1.5, 1),
    "logit shift, images near 0.01": _logit_shift(-5, 2, 1),
    "30% of images, uniform": lambda rng, size: (rng.random(size) < 0.3) * rng.random(size),
    "15% of images, 0.2 to 0.6": lambda rng, size: (rng.random(size) < 0.15) * rng.uniform(0.2, 0.6, size),
    "10% of images, 0.5": lambda rng, size: (rng.random(size) < 0.1) * 0.5,
    "70% of images, Beta(5, 2)": lambda rng, size: (rng.random(size) < 0.7) * rng.beta(5, 2, size),
    "50% of images, 0.8": lambda rng, size: (rng.random(size) < 0.5) * 0.8,
    "40% of images, both signs": lambda rng, size: (
        (rng.random(size) < 0.4) * rng.choice([-1, 1], size) * rng.uniform(0.1, 0.5, size)
    ),
    "mean 0, skewed": lambda rng, size: np.where(rng.random(size) < 0.2, 0.2, -0.05),
    "log-normal": lambda rng, size: np.minimum(1.0, np.exp(rng.normal(-4, 1.5, size))),
    "90% of images, normal": lambda rng, size: (rng.random(size) < 0.9) * rng.normal(0.1, 0.05, size),
}


Ends = tuple[Array, Array]


def student(d: Array, confidence: float = 0.95) -> Ends:
    """Student's t interval of each row of d, (studies, images), for comparison."""
    half = special.stdtrit(d.shape[1] - 1, (1 + confidence) / 2) * d.std(axis=1, ddof=1) / np.sqrt(d.shape[1])
    return d.mean(axis=1) - half, d.mean(axis=1) + half


def hall(d: Array, confidence: float = 0.95) -> Ends:
    """Student's t after Hall's (1992) cubic correction for skewness, of each row, for comparison."""
    mean, spread, root = d.mean(axis=1), d.std(axis=1), np.sqrt(d.shape[1])
    still = np.ptp(d, axis=1) == 0.0
    k = ((d - mean[:, None]) ** 3).mean(axis=1) / np.where(still, 1.0, spread) ** 3 / root
    t = special.stdtrit(d.shape[1] - 1, np.array([(1 + confidence) / 2, (1 - confidence) / 2]))[:, None]
    bent = np.where(np.abs(k) < 1e-6, 1.0, k)
    corrected = np.where(np.abs(k) < 1e-6, t, 3 / bent * (np.cbrt(1 + bent * (t - bent / 6)) - 1))
    low, high = np.where(still, d[:, 0], mean - corrected * d.std(axis=1, ddof=1) / root)
    return low, high


def bca(d: Array, weights: Array, confidence: float = 0.95) -> Ends:
    """BCa bootstrap interval (Efron 1987) of the mean of each row; weights are (resamples, images) counts."""
    mean = d.mean(axis=1)
    centred = d - mean[:, None]
    still = ~centred.any(axis=1)
    means = np.sort([weights @ row / len(row) for row in d], axis=1)  # (studies, resamples)
    squares = np.where(still, 1.0, (centred**2).sum(axis=1))
    a = ((centred**3).sum(axis=1) / (6 * squares**1.5))[:, None]
    below = ((means < mean[:, None]).mean(axis=1) + (means <= mean[:, None]).mean(axis=1)) / 2
    z0 = special.ndtri(np.clip(below, 0.001, 0.999))[:, None]
    z = z0 + special.ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    places = np.clip((special.ndtr(z0 + z / (1 - a * z)) * means.shape[1]).astype(int), 0, means.shape[1] - 1)
    low, high = np.where(still, mean, np.take_along_axis(means, places, axis=1).T)
    return low, high


def used(d: Array) -> Ends:
    """The interval that is used, of each row."""
    low, high = np.array([interval(row) for row in d]).T
    return low, high


def coverage(draw: Draw, images: int, studies: int = 2000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Method -> (share of 95% intervals that hold the true mean, mean width against Student's)."""
    rng = np.random.default_rng(seed)
    truth = float(draw(rng, (2_000_000,)).mean())
    weights = rng.multinomial(images, np.full(images, 1 / images), 1000).astype(np.float64)
    methods: dict[str, Callable[[Array], Ends]] = {
        "Student": student,
        "BCa": lambda d: bca(d, weights),
        "Hall": hall,
        "used": used,
    }
    samples = draw(rng, (studies, images))
    result = {}
    base = 1.0
    for name, method in methods.items():
        low, high = method(samples)
        width = float((high - low).mean())
        base = width if name == "Student" else base
        held = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
        result[name] = (float(held.mean()), width / base)
    return result


@dataclass(frozen=True)
class Family:
    """Studies of dependent features: `draw(rng)` gives (images, features) and `effects` the true means."""

    name: str
    effects: Array
    draw: Callable[[np.random.Generator], Array]


def families(images: int = 20, features: int = 30) -> list[Family]:
    """Sign-symmetric dependent families, three without any effect and three with eight true ones."""
    none = np.zeros(features)
    some = none.copy()
    some[:8] = np.linspace(0.4, 1.6, 8) * np.where(np.arange(8) % 2, -1, 1)

    def correlated(effects: Array) -> Callable[[np.random.Generator], Array]:
        """Equal correlation 0.5, and a scale of each image that all features share."""

        def draw(rng: np.random.Generator) -> Array:
            scale = rng.gamma(2.0, 0.5, (images, 1))
            shared, own = rng.normal(size=(images, 1)), rng.normal(size=(images, features))
            return effects + scale * (shared + own) / np.sqrt(2)

        return draw

    def sparse(effects: Array) -> Callable[[np.random.Generator], Array]:
        """Heavy tails, pairs of opposite features, three quarters of the null differences exactly zero."""

        def draw(rng: np.random.Generator) -> Array:
            noise = rng.standard_t(3, (images, features)) * (rng.random((images, features)) < 0.25)
            noise[:, 1::2] = np.where(rng.random((images, features // 2)) < 0.7, -noise[:, ::2], noise[:, 1::2])
            shown = rng.random((images, features)) < 0.9
            return np.asarray(effects * shown + noise)

        return draw

    def opposed(effects: Array) -> Callable[[np.random.Generator], Array]:
        """Groups of five: what one feature of a group gains the other four lose. Two images in three show an effect."""

        def draw(rng: np.random.Generator) -> Array:
            own = rng.standard_t(4, (images, features // 5, 5)) * rng.gamma(2.0, 0.5, (images, 1, 1))
            noise = (own - own.mean(axis=2, keepdims=True)).reshape(images, features)
            shown = rng.random((images, features)) < 2 / 3
            return np.asarray(effects * 1.5 * shown + noise / 2)

        return draw

    kinds = {"correlated": correlated, "sparse": sparse, "opposed": opposed}
    of = {"no effects": none, "8 effects of 30": some}
    return [Family(f"{name}, {kind}", some, make(some)) for name, some in of.items() for kind, make in kinds.items()]


@dataclass(frozen=True)
class Rates:
    """Over simulated studies: chance of any false claim, mean share of false among claims, share of effects found."""

    fwer: float
    fdr: float
    power: float


METHODS = ("max-T and one more image (used)", "max-T", "BY", "e-BH", "BH (not offered)", "no correction")


def stands(d: Array) -> NDArray[np.bool_]:
    """Which features' means one more image would not undo, (features,), as `effects.deciding` has it."""
    up, down = furthest_moves(d)
    return np.array([images_that_undo(m, len(d), down if m > 0 else up) > 1 for m in d.mean(axis=0)], dtype=bool)


def error_rates(family: Family, studies: int = 2000, level: float = 0.05, seed: int = 0) -> dict[str, Rates]:
    """Method -> error rates at `level`; a claim in the wrong direction is false as well."""
    rng = np.random.default_rng(seed)
    null = family.effects == 0
    claims: dict[str, list[Array]] = {name: [] for name in METHODS}
    signs, raw = [], []
    for study in range(studies):
        d = family.draw(rng)
        flipped = sign_flips(d, flips=2999, seed=study)
        raw.append(flipped.p_raw)
        adjusted = {
            METHODS[0]: np.where(stands(d), flipped.p_max, 1.0),
            "max-T": flipped.p_max,
            "BY": adjust_by(flipped.p_raw),
            "e-BH": adjust_ebh(e_values(d, level=level)),
        }
        for name, p in adjusted.items():
            claims[name].append(p <= level)
        signs.append(np.sign(d.mean(axis=0)))
    claims["BH (not offered)"] = list(stats.false_discovery_control(np.array(raw), axis=1) <= level)
    claims["no correction"] = list(np.array(raw) <= level)
    wrong = null | (np.array(signs) != np.sign(family.effects))
    rates = {}
    for name, of_studies in claims.items():
        claimed = np.array(of_studies)
        false, right = claimed & wrong, claimed & ~wrong
        rates[name] = Rates(
            float(false.any(axis=1).mean()),
            float((false.sum(axis=1) / np.maximum(claimed.sum(axis=1), 1)).mean()),
            float(right[:, ~null].mean()) if (~null).any() else float("nan"),
        )
    return rates


def skewed_fwer(
    images: int, studies: int = 2000, features: int = 30, seed: int = 0, shapes: int = 3
) -> dict[str, float]:
    """Where sign symmetry fails: features of mean zero but skewed differences, dependent through a shared factor.

    Of the first `shapes` shapes: shape -> chance of any false *raises*/*lowers* under max-T at 5%.
    """
    rng = np.random.default_rng(seed)
    draws: dict[str, Callable[[], Array]] = {
        "mild (skewness 0.8)": lambda: rng.gamma(6.0, 1.0, (images, features)) - 6.0,
        "strong (skewness 1.5)": lambda: np.where(rng.random((images, features)) < 0.2, 0.2, -0.05),
        "extreme (skewness 2.7)": lambda: np.where(rng.random((images, features)) < 0.1, 0.45, -0.05),
    }
    rates = {}
    for name, draw in list(draws.items())[:shapes]:
        false = 0
        for study in range(studies):
            d = draw() * rng.gamma(2.0, 0.5, (images, 1))
            false += bool((sign_flips(d, flips=999, seed=study).p_max <= 0.05).any())
        rates[name] = false / studies
    return rates


def few_far(
    images: int, share: float, studies: int = 150, features: int = 30, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Skewness that samples do not show: a few images move far, the others a little the other way, the mean being zero.

    Eight of the features have effects of 0.04 to 0.3, whichever way; of the others, half have their far images above
    and half below (0.45 to 0.9).

    Returns:
        Method -> (chance of any false claim at 5%, share of the eight that are claimed): max-T alone, and as decided.
    """
    rng = np.random.default_rng(seed)
    truth = np.zeros(features)
    truth[:8] = np.linspace(0.04, 0.3, 8) * np.where(np.arange(8) % 2, -1, 1)
    turned = np.where(np.arange(features) % 2, -1.0, 1.0)
    claims = {"max-T": np.zeros((studies, features)), "used": np.zeros((studies, features))}
    for study in range(studies):
        size = (images, features)
        near = -share * 0.675 / (1 - share) * rng.exponential(1.0, size)  # 0.675 is the mean of the far ones
        d = turned * np.where(rng.random(size) < share, rng.uniform(0.45, 0.9, size), near) + rng.normal(0, 0.01, size)
        d[:, :8] = truth[:8] * (1 + 0.8 * rng.normal(size=(images, 8))) + rng.normal(0, 0.03, (images, 8))
        alone = (sign_flips(d, flips=499, seed=study).p_max <= 0.05) * np.sign(d.mean(axis=0))
        decided = decide({str(j): d[:, j] for j in range(features)}, DecisionOptions(flips=499, seed=study)).values()
        claims["max-T"][study] = alone
        claims["used"][study] = [{"raises": 1, "lowers": -1}.get(each.decision, 0) for each in decided]
    rates = {}
    for method, claimed in claims.items():
        false = (claimed != 0) & (np.sign(truth) != claimed)
        rates[method] = (float(false.any(axis=1).mean()), float((claimed == np.sign(truth))[:, :8].mean()))
    return rates


def selection(
    studies: int = 2000, images: int = 20, features: int = 40, top: int = 8, seed: int = 0
) -> dict[str, float]:
    """Testing only the features that the same images chose: chance of any false claim, no feature having an effect."""
    rng = np.random.default_rng(seed)
    false = {"chosen by mean |d|": 0, "chosen by |mean d|": 0}
    for study in range(studies):
        d = rng.normal(size=(images, features)) * rng.gamma(2.0, 0.5, features) + rng.normal(size=(images, 1))
        for name, score in (
            ("chosen by mean |d|", np.abs(d).mean(axis=0)),
            ("chosen by |mean d|", np.abs(d.mean(axis=0))),
        ):
            chosen = np.argsort(-score)[:top]
            false[name] += bool((sign_flips(d[:, chosen], flips=999, seed=study).p_max <= 0.05).any())
    return {name: count / studies for name, count in false.items()}


def winners_curse(
    studies: int = 2000, images: int = 32, features: int = 40, top: int = 5, seed: int = 0
) -> dict[str, float]:
    """Mean of (|estimate| − |truth|) of the top features: chosen and estimated on all images, or split in halves."""
    rng = np.random.default_rng(seed)
    bias: dict[str, list[float]] = {"same images": [], "confirmation images": []}
    for study in range(studies):
        truth = rng.normal(0, 0.05, features)
        d = truth + rng.normal(0, 0.2, (images, features))
        keys = [f"image {i}" for i in range(images)]
        discovery, confirmation = (np.array([keys.index(k) for k in part]) for part in split(keys, 0.5, study))
        for name, search_on, report_on in (
            ("same images", np.arange(images), np.arange(images)),
            ("confirmation images", discovery, confirmation),
        ):
            found = d[search_on].mean(axis=0)
            best = np.argsort(-np.abs(found))[:top]
            estimate = d[report_on][:, best].mean(axis=0) * np.sign(found[best])
            bias[name].append(float((estimate - truth[best] * np.sign(found[best])).mean()))
    return {name: float(np.mean(values)) for name, values in bias.items()}


def mixed_errors(studies: int = 2000, images: int = 24, features: int = 20, flips: int = 999, seed: int = 0) -> float:
    """At the edge of what *mixed* denies, the worst case: how often a study claims it of any feature."""
    rng = np.random.default_rng(seed)
    options = DecisionOptions(margin=0.05, flips=flips)
    any_mixed = 0
    for _ in range(studies):
        # Up on a half of the images, down on exactly `mixed_share` of them: not mixed, as close to it as can be.
        u = rng.random((images, features))
        edge = np.where(u < options.mixed_share, -0.3, np.where(u < 0.5, 0.3, 0.0))
        decisions = decide({str(j): edge[:, j] for j in range(features)}, options)
        any_mixed += any(decision.decision == "mixed" for decision in decisions.values())
    return any_mixed / studies


def margin_errors(studies: int = 2000, images: int = 24, confidence: float = 0.95, seed: int = 0) -> float:
    """How often *no effect shown* is said of an effect at the margin, where no image can move far.

    With the reach of a probability, what unseen images might do forbids the decision at so few images. Here the reach
    is small, so that the interval decides.
    """
    rng = np.random.default_rng(seed)
    options = DecisionOptions(margin=0.05, flips=99, confidence=confidence)
    drawn = rng.normal(options.margin, 0.05, (studies, images))
    said = (decide({"edge": d}, options, reach=Reach(furthest=0.06))["edge"].decision for d in drawn)
    return sum(each == "no effect shown" for each in said) / studies


@dataclass(frozen=True)
class Placebo:
    """Studies of 30 features that do exactly what three control prompts do.

    Images have logits around `base`; every edit adds noise of standard deviation 1.5 and moves them by `drift`.
    """

    images: int
    base: float
    drift: float

    @property
    def name(self) -> str:
        return f"{self.images} images, base logit {self.base:g}, drift {self.drift:g}"

    def draw(self, rng: np.random.Generator, features: int = 30, controls: int = 3) -> tuple[Array, Array]:
        z = rng.normal(self.base, 1.0, (self.images, 1))
        edits = sigmoid(z + self.drift + rng.normal(0, 1.5, (self.images, features + controls))) - sigmoid(z)
        return edits[:, :features], edits[:, features:]


PLACEBOS = [Placebo(n, base, drift) for n in (24, 48, 100) for base in (0.0, -3.0) for drift in (0.0, 0.3)]

SKEWED = Placebo(24, -3.0, 0.3)
"""Where effects are most skewed: few images near one end of the scale, and edits that drift."""

POWERS = [(n, noise, 3) for n in (24, 48) for noise in (0.3, 0.6, 1.0)] + [(24, 1.0, 8)]
"""Images, noise of edits in logits, control prompts."""


@dataclass(frozen=True)
class PlaceboRates:
    """Share of studies (or of effects) with a claim.

    Attributes:
        against_null: tested against the null edit.
        controlled: tested against the control prompts, by sign flips and by exchanges; of effects, as they are decided.
        flips_alone: against the control prompts, by sign flips alone.
    """

    against_null: float
    controlled: float
    flips_alone: float = float("nan")


def _exchanged(flipped: Array, d: Array, controls: Array, flips: int, seed: int) -> Array:
    """The p-values of sign flips, after those of exchanges: the larger of both."""
    return np.asarray(np.maximum(flipped, exchanges(d, controls, flips=flips, seed=seed).p_max))


def placebo_claims(
    setting: Placebo, studies: int = 300, flips: int = 299, seed: int = 0, controls: int = 3
) -> PlaceboRates:
    """Chance of any claim at 5%, before one more image is asked about; every one is false."""
    rng = np.random.default_rng(seed)
    claims = np.zeros(3)
    for study in range(studies):
        d, others = setting.draw(rng, controls=controls)
        raw = sign_flips(d, flips=flips, seed=study).p_max
        alone = sign_flips(placebo_effects(d, others), flips=flips, seed=study).p_max
        claims += [(p <= 0.05).any() for p in (raw, _exchanged(alone, d, others, flips, study), alone)]
    return PlaceboRates(*(claims / studies))


def placebo_power(
    images: int = 24, noise: float = 0.3, controls: int = 3, studies: int = 100, flips: int = 499, seed: int = 0
) -> PlaceboRates:
    """Share of eight true effects among 30 features that are claimed, where edits are noisy and do not drift.

    Against the control prompts: as `effects.deciding.decide` claims them, the interval against the null edits agreeing.

    Effects are of 0.2 to 1.5 logits, up and down, and vary by two fifths from image to image.

    Args:
        noise: standard deviation of what any edit adds, in logits, on images around probability 0.5.
    """
    rng = np.random.default_rng(seed)
    shifts = np.zeros(30)
    shifts[:8] = np.linspace(0.2, 1.5, 8) * np.where(np.arange(8) % 2, -1, 1)
    found = np.zeros(2)
    for study in range(studies):
        z = rng.normal(0, 1, (images, 1))
        moved = shifts * (1 + 0.4 * rng.normal(size=(images, 30)))
        d = sigmoid(z + moved + rng.normal(0, noise, (images, 30))) - sigmoid(z)
        others = sigmoid(z + rng.normal(0, noise, (images, controls))) - sigmoid(z)
        raw = sign_flips(d, flips=flips, seed=study).p_max
        options = DecisionOptions(flips=flips, seed=study)
        decided = decide({f"{j:02d}": d[:, j] for j in range(30)}, options, controls=others)
        claimed = [each.decision in ("raises", "lowers") for each in decided.values()]
        found += np.mean(raw[:8] <= 0.05), np.mean(claimed[:8])
    return PlaceboRates(*(found / studies))


def false_all_clear(images: int, share: float, size: float, studies: int = 1000, seed: int = 0) -> float:
    """How often *no effect shown* is said of a feature that moves a share of the images by `size`, the mean being
    beyond the margin of 0.02; the other images move by noise of 0.005.

    As `effects.deciding` decides it, for all studies at once.
    """
    assert share * size > 0.02
    rng = np.random.default_rng(seed)
    moved = rng.random((studies, images)) < share
    d = np.where(moved, size, rng.normal(0, 0.005, (studies, images)))
    reach = Reach(still=0.02)
    wrong = 0
    for study in d[moved.sum(axis=1) <= 2 + 2 * images * share]:  # more than that is never inside the margin
        ends = (*interval(study, reach=reach), *unseen_bounds(study, reach))
        wrong += max(map(abs, ends)) <= 0.02
    return wrong / studies


def main() -> None:
    """Print every table of docs/validity.md."""
    print("Coverage of 95% intervals, % (width against Student's)")
    for images in (16, 32):
        rows = {name: coverage(draw, images) for name, draw in SHAPES.items()}
        methods = list(next(iter(rows.values())))
        print(f"\n| {images} images | " + " | ".join(methods) + " |\n|---|" + "---:|" * len(methods))
        for name, row in rows.items():
            print(f"| {name} | " + " | ".join(f"{100 * row[m][0]:.1f} ({row[m][1]:.2f})" for m in methods) + " |")
        print(
            "| mean | " + " | ".join(f"{100 * np.mean([r[m][0] for r in rows.values()]):.1f}" for m in methods) + " |"
        )
    print("\nError rates at 5% over 2,000 studies of 20 images and 30 features, %")
    print("\n| family | method | any false claim | FDR | effects found |\n|---|---|---:|---:|---:|")
    for family in families():
        for name, rate in error_rates(family).items():
            print(f"| {family.name} | {name} | {100 * rate.fwer:.1f} | {100 * rate.fdr:.1f} | {100 * rate.power:.0f} |")
    print("\nSkewed differences of mean zero, max-T at 5%, any false claim, %")
    skewed = {images: skewed_fwer(images) for images in (16, 32, 64)}
    print("\n| shape | " + " | ".join(f"{n} images" for n in skewed) + " |\n|---|" + "---:|" * len(skewed))
    for name in skewed[16]:
        print(f"| {name} | " + " | ".join(f"{100 * skewed[n][name]:.1f}" for n in skewed) + " |")
    print("\nFew images move far, of mean zero: any false claim, effects found, % (max-T, as decided)")
    for images in (24, 48):
        for share in (0.01, 0.02, 0.04, 0.08):
            few = few_far(images, share, 200)
            shown = " | ".join(f"{100 * few[m][i]:.1f}" for i in (0, 1) for m in ("max-T", "used"))
            print(f"| {images} | {share:.0%} | {shown} |")
    print("\nFeatures that do what control prompts do, any claim, % (null edits; controls: flips alone, as decided)")
    for setting in PLACEBOS:
        rates = placebo_claims(setting, 1000)
        shown = (rates.against_null, rates.flips_alone, rates.controlled)
        print(f"| {setting.name} | " + " | ".join(f"{100 * rate:.1f}" for rate in shown) + " |")
    print("\nThe same with more control prompts, any claim, %")
    for controls, studies in ((5, 2500), (8, 1000)):
        rates = placebo_claims(SKEWED, studies, controls=controls)
        print(f"| {controls} control prompts, {SKEWED.name}, {studies} studies | {100 * rates.controlled:.1f} |")
    print("\nEffects found, % (against null edits, against controls)")
    for images, noise, controls in POWERS:
        rates = placebo_power(images, noise, controls, studies=400)
        found = f"{100 * rates.against_null:.1f} | {100 * rates.controlled:.1f}"
        print(f"| {images} | {noise:g} | {controls} | {found} |")
    print("\nSelection on the same images, any false claim:", selection())
    print("Winner's curse, mean bias of the top 5:", winners_curse())
    print("At the edge of the null hypothesis: any false mixed", mixed_errors(), "no effect shown", margin_errors())


if __name__ == "__main__":
    main()
