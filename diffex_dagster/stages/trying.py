"""Try options of an editor on a few images: make the edits, have them judged, and measure how much they change.

What is tried next, and what is chosen of it, is in `editing.calibration`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diffex_dagster.editing import calibration as planning
from diffex_dagster.editing.calibration import Try, Wanted
from diffex_dagster.editing.protocol import Concept, EditRequest
from diffex_dagster.judging.protocol import traits_of
from diffex_dagster.stages.context import StudyContext
from diffex_dagster.stages.edit_metrics import edit_metrics_of
from diffex_dagster.stages.edits import EditCounts, make_edits
from diffex_dagster.stages.judging import ensure_evidence, least_gain
from diffex_dagster.store import StoredPicture, edit_key

Settings = Callable[[str | None, str | None], Sequence[str]]
"""`Calibrates.settings` of an editor."""
OTHERS = 4  # groups whose attribute every edit is looked at for
PART = 0.25  # of the most that any setting gains on an image: with less an edit shows a trace of its attribute


@dataclass(frozen=True)
class _Seen:
    """What is measured of one try, before it is compared with others."""

    wanted: Wanted
    image: str
    setting: str
    gain: float
    strength: float
    kept: float  # structural similarity to the null edit
    others: Mapping[str, float]  # prompt of another group -> gain


class Trying:
    """Makes and judges tries.

    Attributes:
        work: whose editor makes the edits, and whose judge judges them.
        counts: what they took.
    """

    def __init__(self, work: StudyContext, images: Sequence[str]) -> None:
        self.work, self._study, self._store, self._editor = work, work.study, work.store, work.editor
        self._images = images
        self._words = [(word, image) for image in images for word in work.study.effects.control_prompts]
        self._seen: dict[tuple[Wanted, str, str], _Seen] = {}
        self._nothing: list[np.ndarray] = []  # evidence of each control prompt in the null edits, (images,)
        self._chance: dict[str, float] = {}
        self._controls: dict[str, int] = {}
        self._settings: Settings = lambda region, group: ()  # none: every setting suits every prompt
        self._best: Mapping[tuple[Wanted, str], float] = {}  # gains elsewhere that edits are held against too
        self._whole: dict[str, list[float]] = {}  # prompt -> gains of its edits of earlier calibrations
        self.counts = EditCounts()

    def run(
        self,
        new: Sequence[Wanted],
        settings: Settings,
        before: Sequence[Try],
        final: Sequence[str],
        budget: int,
    ) -> list[str]:
        """Try settings on these prompts; returns the finalists, among them one that suits each kind of prompt.

        A prompt is tried under the settings that suit its kind only, since it is edited with no other.

        Args:
            before: tries of an earlier calibration, whose finalists `final` are tried on the new prompts at once.
        """
        self._settings = settings
        self._begin(new, before)
        pairs, left = self._in_order(new), budget
        self.counts = EditCounts()  # the study makes the null edits too
        arms, kinds = list(final), planning.suiting(new, settings)
        if not arms:
            arms = planning.in_turn(new, settings)
            rounds = planning.halving(len(arms), budget // 2, len(pairs), len(self._words))
            arms = arms[: rounds[0].arms] if rounds else arms[:1]
            for i, each in enumerate(rounds):
                left -= self._try(arms, pairs[: each.pairs], each.controls)
                keep = rounds[i + 1].arms if i + 1 < len(rounds) else planning.FINALISTS
                arms = planning.better(self.tries, arms, keep, kinds)
            if rounds:
                most = int(planning.VARIANTS * budget)
                last = rounds[-1]
                arms, spent = self._varied(arms, pairs[: last.pairs], last.controls, min(most, left), kinds)
                left -= spent
        arms += [of[0] for of in kinds if of and not set(of) & set(arms)]  # a kind that no finalist suits
        if len(arms) > 1:
            made = self._controls.get(arms[0], 0)
            controls = max(made, min(len(self._words), 2 * planning.PAIRS))
            charged = self._missing(arms, controls, bool(final))
            if left - charged < len(arms) and made:  # those that there are have to do
                controls, charged = made, self._missing(arms, made, bool(final))
            untried = [(w, i) for w, i in pairs if not any((w, i, arm) in self._seen for arm in self._suiting(w, arms))]
            cost = np.cumsum([len(self._suiting(w, arms)) for w, _ in untried])
            if affordable := int(np.searchsorted(cost, left - charged, side="right")):
                self._try(arms, untried[:affordable], controls)
        return arms

    def _varied(
        self,
        arms: list[str],
        pairs: Sequence[tuple[Wanted, str]],
        controls: int,
        most: int,
        kinds: Sequence[Collection[str]],
    ) -> tuple[list[str], int]:
        """As many finalists, among them variants of the best that do better than others; and the edits that this took.

        Args:
            pairs, controls: what the finalists were tried on.
            most: edits that it may take.
            kinds: as `planning.better` has them.
        """
        variants: Callable[[str], Sequence[str]] | None = getattr(self._editor, "variants", None)
        use = {arm: sum(each.use for each in self.tries if each.setting == arm) for arm in arms}
        more = (
            [] if variants is None else [each for each in variants(max(arms, key=use.__getitem__)) if each not in arms]
        )
        while more and min(len(pairs), most // len(more) - controls) < min(planning.PAIRS, len(pairs)):
            more.pop()  # the budget pays for the likeliest only
        if not more:
            return arms, 0
        count = min(len(pairs), most // len(more) - controls)
        spent = self._try(more, pairs[:count], controls)
        on = set(pairs[:count])
        tries = [each for each in self.tries if (each.wanted, each.image) in on]
        return planning.better(tries, [*arms, *more], len(arms), kinds), spent

    def compare(
        self,
        new: Sequence[Wanted],
        settings: Settings,
        arms: Sequence[str],
        controls: int,
        most: int,
        pairs: Sequence[tuple[Wanted, str]] = (),
    ) -> Sequence[tuple[Wanted, str]]:
        """Try these settings on pairs of prompt and image, with so many control edits each; returns the pairs.

        Args:
            new: prompts that the pairs are of; each is tried under those of `arms` that suit its kind.
            most: pairs, where none are given: spread over all groups, by the null edits of this editor.
            pairs: those that another editor was tried on.
        """
        self._settings = settings
        new = [wanted for wanted in new if self._suiting(wanted, arms)]
        self._begin(new, ())
        pairs = pairs or self._in_order(new)[:most]
        self._try(arms, pairs, controls)
        return pairs

    def _suiting(self, wanted: Wanted, arms: Sequence[str]) -> Sequence[str]:
        """Those of the settings that suit the prompt's kind; all of them for a kind without settings."""
        of_kind = self._settings(wanted.region or None, wanted.group)
        return [arm for arm in arms if arm in of_kind] if of_kind else arms

    def _begin(self, new: Sequence[Wanted], before: Sequence[Try]) -> None:
        """Make the null edits, and look up what every try is held against."""
        self._others = _others(new, before)
        self._whole = self._known_gains(before)
        nulls = [EditRequest(image, (), self._study.seed) for image in self._images]
        self._edit(nulls)
        if not traits_of(self.work.judge).binary:  # one that says yes or no is taken at its word
            words = self._study.effects.control_prompts
            found = self._evidence([(null, word) for word in words for null in nulls])
            self._nothing = [np.array([found[null, word] for null in nulls]) for word in words]

    def _in_order(self, new: Sequence[Wanted]) -> list[tuple[Wanted, str]]:
        """The pairs of prompt and image in the order in which they are tried."""
        return planning.spread(new, self._least_shown(new))

    def _missing(self, arms: Sequence[str], controls: int, earlier: bool) -> int:
        """Control edits under these settings that were not asked for yet, in an earlier calibration either."""
        asked = [
            self._at(i, word, "add", arm)
            for arm in arms
            for word, i in self._words[self._controls.get(arm, 0) : controls]
        ]
        return len(asked) - (len(self._store.stored_edits(asked, self._editor.fingerprint)) if earlier else 0)

    def _at(self, image: str, prompt: str, direction: Literal["add", "remove"], setting: str) -> EditRequest:
        return EditRequest(image, (Concept(prompt, direction, setting),), self._study.seed)

    @property
    def tries(self) -> list[Try]:
        """What was tried so far; harm is measured against what edits of the other attributes do to theirs.

        An edit shows its attribute where it gains more than `judging.least_gain`, and at least `PART` of what the best
        setting tried gains for the same prompt on the same image: the gentlest setting would else be one that hardly
        begins.
        What was tried is a scale of its own: a pair with fewer settings is judged less strictly.
        """
        of = {prompt: list(gains) for prompt, gains in self._whole.items()}
        for each in self._seen.values():
            if each.gain > self._chance[each.setting]:
                of.setdefault(each.wanted.prompt, []).append(each.gain)
        whole = {prompt: float(np.mean(gains)) for prompt, gains in of.items()}
        weak = self._study.effects.min_edit_strength
        most = self.best
        found = []
        for each in self._seen.values():
            spilled = [min(1.0, abs(gain) / whole[p]) for p, gain in each.others.items() if whole.get(p, 0.0) > 0.0]
            spill = float(np.mean(spilled)) if spilled else 0.0
            shows = each.gain > self._chance[each.setting] and each.gain >= PART * most[each.wanted, each.image]
            succeeded = shows and each.strength >= weak
            harm = 1.0 - max(0.0, each.kept) * (1.0 - spill)
            found.append(Try(each.wanted, each.image, each.setting, bool(succeeded), harm))
        return found

    @property
    def best(self) -> dict[tuple[Wanted, str], float]:
        """What the best setting gains, of each pair of prompt and image that was tried."""
        most = dict(self._best)
        for each in self._seen.values():
            most[each.wanted, each.image] = max(each.gain, most.get((each.wanted, each.image), 0.0))
        return most

    def hold_against(self, best: Mapping[tuple[Wanted, str], float]) -> None:
        """Hold edits also against the best of another editor's, so that both are judged by one scale."""
        self._best = best

    def _edit(self, requests: Sequence[EditRequest]) -> None:
        self.counts += make_edits(self.work, requests, "calibration edits")

    def _least_shown(self, new: Sequence[Wanted]) -> dict[Wanted, list[str]]:
        """The images of each prompt, first those that its edit has most to change on."""
        nulls = {image: EditRequest(image, (), self._study.seed) for image in self._images}
        found = self._evidence([(null, w.prompt) for w in new for null in nulls.values()])
        order = {}
        for w in new:
            sign = 1.0 if w.direction == "add" else -1.0
            shown = {image: sign * found[nulls[image], w.prompt] for image in self._images}
            order[w] = sorted(self._images, key=shown.__getitem__)
        return order

    def _known_gains(self, before: Sequence[Try]) -> dict[str, list[float]]:
        """What earlier edits of the prompts that others are looked at for gained of their own, where they succeeded."""
        looked_for = {prompt for prompts in self._others.values() for prompt in prompts}
        succeeded = [e for e in before if e.succeeded and e.wanted.direction == "add" and e.wanted.prompt in looked_for]
        asked = {each: self._at(each.image, each.wanted.prompt, "add", each.setting) for each in succeeded}
        nulls = {each.image: EditRequest(each.image, (), self._study.seed) for each in succeeded}
        stored = self._store.stored_edits([*asked.values(), *nulls.values()], self._editor.fingerprint)
        asked = {each: r for each, r in asked.items() if r in stored and nulls[each.image] in stored}
        found = self._evidence([(r, e.wanted.prompt) for e, of in asked.items() for r in (of, nulls[e.image])])
        gains: dict[str, list[float]] = {}
        for each, request in asked.items():
            prompt = each.wanted.prompt
            gains.setdefault(prompt, []).append(found[request, prompt] - found[nulls[each.image], prompt])
        return gains

    def _evidence(self, asked: Sequence[tuple[EditRequest, str]]) -> dict[tuple[EditRequest, str], float]:
        wanted = list(dict.fromkeys(asked))
        return ensure_evidence(self.work, wanted)

    def _try(self, arms: Sequence[str], pairs: Sequence[tuple[Wanted, str]], controls: int) -> int:
        """Edit these pairs, each under the settings that suit it, and so many control pairs under each setting.

        What is new is measured. Returns the edits that were not asked for before, whether the store has them or not.
        """
        seed, words = self._study.seed, self._words[:controls]
        wanted = [(w, i, arm) for w, i in pairs for arm in self._suiting(w, arms)]
        asked = {(w, i, arm): self._at(i, w.prompt, w.direction, arm) for w, i, arm in wanted}
        asked = {of: request for of, request in asked.items() if of not in self._seen}
        control = {(word, i, arm): self._at(i, word, "add", arm) for arm in arms for word, i in words}
        self._edit([*asked.values(), *control.values()])
        looked_for = {of: [of[0].prompt, *self._others[of[0]]] for of in asked}
        nulls = {image: EditRequest(image, (), seed) for image in self._images}
        evidence = self._evidence(
            [(r, p) for of, request in asked.items() for p in looked_for[of] for r in (request, nulls[of[1]])]
            + [(r, word) for (word, i, _), request in control.items() for r in (request, nulls[i])]
        )
        new = len(asked)
        for arm in arms:
            rises = [evidence[control[word, i, arm], word] - evidence[nulls[i], word] for word, i in words]
            self._chance[arm] = least_gain([np.array(rises)], self._nothing)
            new += len(words) - self._controls.get(arm, 0)
            self._controls[arm] = len(words)
        self._measure(asked, looked_for, evidence, nulls)
        return new

    def stored(self, files: Mapping[EditRequest, str]) -> dict[EditRequest, StoredPicture]:
        """The pictures of edits, each read when it is called for."""
        return {request: StoredPicture(self._store.pictures, file) for request, file in files.items()}

    def _measure(
        self,
        asked: Mapping[tuple[Wanted, str, str], EditRequest],
        looked_for: Mapping[tuple[Wanted, str, str], Sequence[str]],
        evidence: Mapping[tuple[EditRequest, str], float],
        nulls: Mapping[str, EditRequest],
    ) -> None:
        store, fingerprint = self._store, self._editor.fingerprint
        stored = self.stored(store.stored_edits([*asked.values(), *nulls.values()], fingerprint))
        keys = {of: edit_key(request, fingerprint) for of, request in asked.items()}
        pairs = {keys[of]: (stored[request], stored[nulls[of[1]]]) for of, request in asked.items()}
        metrics, _ = edit_metrics_of(store, pairs, editor=self._editor)
        for of, request in asked.items():
            (wanted, image, setting), null = of, nulls[of[1]]
            rise = {p: evidence[request, p] - evidence[null, p] for p in looked_for[of]}
            gain = rise.pop(wanted.prompt) * (1.0 if wanted.direction == "add" else -1.0)
            found = metrics[keys[of]]
            self._seen[of] = _Seen(wanted, image, setting, gain, found.strength, found.ssim, rise)


def _others(new: Sequence[Wanted], before: Sequence[Try]) -> dict[Wanted, tuple[str, ...]]:
    """Prompts of other groups that each prompt's edits are looked at for: the first of a few groups, the next ones."""
    first: dict[str, str] = {}
    for wanted in (*new, *(each.wanted for each in before)):
        if wanted.direction == "add":
            first.setdefault(wanted.group, wanted.prompt)
    groups = list(first)
    found = {}
    for wanted in new:
        start = groups.index(wanted.group) + 1 if wanted.group in groups else 0
        turned = [*groups[start:], *groups[:start]]
        prompts = [first[group] for group in turned if group != wanted.group and first[group] != wanted.prompt]
        found[wanted] = tuple(prompts[:OTHERS])
    return found
