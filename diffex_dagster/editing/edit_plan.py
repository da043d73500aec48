"""Inversions and edits as the engine takes them, and which of them have a row of the UNet's batch at each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from diffex_dagster.editing.guidance import ConceptRows, Guidance
from diffex_dagster.editing.models import Text, Texts
from diffex_dagster.editing.vocabulary import SourcePrompt


@dataclass(frozen=True)
class Inversion:
    """One picture's way from noise to itself, S steps, all float32 on the engine's device.

    Following `latents` needs no guidance, so the last of them is the null edit.
    """

    latents: torch.Tensor  # (S + 1, C, H, W): x_0 (noisiest) ... x_S (clean)
    outputs: torch.Tensor  # (S, C, H, W): the UNet's output at x_i, given `shows`
    noises: torch.Tensor  # (S, C, H, W): what has to be added to the rule's mean to arrive at x_{i+1}
    shows: SourcePrompt = ()  # what the picture shows, as far as the inversion was told

    @property
    def nbytes(self) -> int:
        return sum(t.nbytes for t in (self.latents, self.outputs, self.noises))


@dataclass(frozen=True)
class GuidedConcept:
    """One concept of an edit, ready for the UNet."""

    text: Text  # the concept, and what else the picture shows, where it was described
    sign: float  # +1 goes towards the text, −1 away from it
    guidance: Guidance


@dataclass(frozen=True)
class Edit:
    """One edit of one inverted picture."""

    inversion: Inversion
    concepts: tuple[GuidedConcept, ...]

    @property
    def masked(self) -> bool:
        """Whether every concept is held to a mask, so that the edit as a whole is."""
        return all(concept.guidance.mask != "none" for concept in self.concepts)

    def start(self, steps: int) -> int:
        """The first step that guidance changes; `steps` if none does, which makes this a null edit."""
        return min((i for c in self.concepts for i in range(steps) if c.guidance.active(i)), default=steps)

    def source_cancels(self, step: int) -> bool:
        """Whether e does not count in what the edit follows, e + Σ s_k (e_k − e): unmasked, with strengths of sum 1."""
        active = [c for c in self.concepts if c.guidance.active(step)]
        free = all(c.guidance.mask == "none" for c in active)
        return free and sum(c.sign * c.guidance.scale for c in active) == 1.0


@dataclass(frozen=True)
class Rows:
    """What is in the batch at a step. Rows: running edits without guidance, then their active concepts."""

    running_list: list[int]  # edits under way: those with a row without guidance, the cancelled, the joining
    cancelled: int  # those whose unguided output does not count
    joining: list[int]  # those whose unguided output is known from the inversion
    running: torch.Tensor
    source: torch.Tensor  # the edit that each row's latents come from
    texts: Texts  # a prompt a row
    count: int  # active concepts
    owner: torch.Tensor  # position in `running` of each active concept's edit
    turns: list[torch.Tensor]  # the active concepts: every edit's first, every edit's second ...
    words: torch.Tensor | None  # (count, T)
    concepts: ConceptRows | None


class Plan:
    """Puts together the batch of each step, and again only when it changes; `sources` are the unguided texts."""

    def __init__(self, edits: Sequence[Edit], starts: list[int], sources: Sequence[Text], device: torch.device) -> None:
        self.edits, self.starts, self.sources, self.device = edits, starts, sources, device
        self._last: tuple[Any, Rows] | None = None

    def at(self, i: int) -> Rows:
        """The rows of step `i`."""
        under_way = [e for e, start in enumerate(self.starts) if start <= i]
        cancelled = [e for e in under_way if self.edits[e].source_cancels(i)]
        joining = [e for e in under_way if self.starts[e] == i and e not in cancelled]
        evaluated = [e for e in under_way if e not in cancelled and e not in joining]
        running = [*evaluated, *cancelled, *joining]
        active = [(place, c) for place, e in enumerate(running) for c in self.edits[e].concepts if c.guidance.active(i)]
        key = (cancelled, joining, running, [(place, id(c)) for place, c in active])
        if self._last is None or self._last[0] != key:
            self._last = (key, self._put_together(evaluated, cancelled, joining, active))
        return self._last[1]

    def _put_together(
        self, evaluated: list[int], cancelled: list[int], joining: list[int], active: list[tuple[int, GuidedConcept]]
    ) -> Rows:
        running = [*evaluated, *cancelled, *joining]
        concepts = [c for _, c in active]
        turns: dict[int, list[int]] = {}
        taken: Counter[int] = Counter()
        for i, (owner, _) in enumerate(active):
            turns.setdefault(taken[owner], []).append(i)
            taken[owner] += 1
        texts = Texts.stack([self.sources[e] for e in evaluated] + [c.text for c in concepts])
        return Rows(
            running_list=running,
            cancelled=len(cancelled),
            joining=joining,
            running=torch.tensor(running, device=self.device),
            source=torch.tensor(evaluated + [running[p] for p, _ in active], device=self.device, dtype=torch.long),
            texts=texts,
            count=len(active),
            owner=torch.tensor([p for p, _ in active], device=self.device, dtype=torch.long),
            turns=[torch.tensor(turn, device=self.device) for turn in turns.values()],
            words=torch.stack([c.text.words for c in concepts]) if concepts else None,
            concepts=ConceptRows([c.sign for c in concepts], [c.guidance for c in concepts], self.device)
            if active
            else None,
        )
