"""Textual editing and semantic grounding: where and how strongly each concept steers a step (LEDITS++ section 3).

For concept *k* of an edit, with unconditional output e and conditional output e_k, the guidance is

    γ_k = s_k · (±(e_k − e)) · M¹_k · M²_k            and the edit follows e + Σ_k γ_k

M¹ keeps the places that the concept's words attend to; M² keeps those where the guidance itself is largest. Each is 1
where its map reaches the map's λ-quantile and 0 elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
import torch.nn.functional as F

MaskMode = Literal["noise", "cross_attention", "intersection", "none"]
# While almost nothing but noise is visible, where the guidance is large says little: diffusers trusts M¹ alone there,
# except with Stable Diffusion XL.
INTERSECT_FROM_TIMESTEP = 800


@dataclass(frozen=True)
class Guidance:
    """How one concept steers its edit."""

    scale: float  # s
    threshold: float  # λ in [0, 1]: the share of the picture that is left alone
    mask: MaskMode
    warmup: int  # steps before the guidance sets in
    cooldown: int | None  # step from which it stays out; None for never

    def active(self, step: int) -> bool:
        """Whether step number `step` (0 is the noisiest) is guided."""
        return self.warmup <= step and (self.cooldown is None or step < self.cooldown)

    @property
    def needs_attention(self) -> bool:
        """Whether cross-attention maps have to be kept for the mask."""
        return self.mask in ("cross_attention", "intersection")


class ConceptRows:
    """The concepts that are active at a step, as tensors that are made once and used for many steps.

    Args:
        signs: +1 to add a concept, −1 to remove it; K of them.
        guidances: one for each concept.
        device: of the UNet's outputs.
    """

    def __init__(self, signs: Sequence[float], guidances: Sequence[Guidance], device: torch.device) -> None:
        self.strength = torch.tensor([s * g.scale for s, g in zip(signs, guidances, strict=True)], device=device)
        self.thresholds = torch.tensor([g.threshold for g in guidances], device=device)
        self.needs_attention = any(g.needs_attention for g in guidances)
        self._noise_masked = _Choice([g.mask == "noise" for g in guidances], device)
        self._noise_or_both = _Choice([g.mask in ("noise", "intersection") for g in guidances], device)
        self._attention_masked = _Choice([g.needs_attention for g in guidances], device)

    def guide(
        self, difference: torch.Tensor, attention: torch.Tensor | None, intersect: bool = True
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """γ_k for every concept, and where it may differ from zero.

        Args:
            difference: e_k − e, (K, C, H, W).
            attention: cross-attention maps (K, h, w) if `needs_attention`.
            intersect: whether the mask "intersection" is M¹·M² at this step, or M¹ alone.

        Returns:
            γ (K, C, H, W), and M¹·M² (K, H, W), 1 where the concept may steer and 0 elsewhere.
        """
        guided = difference * self.strength[:, None, None, None]
        noise_masked = self._noise_or_both if intersect else self._noise_masked
        mask_1 = mask_2 = None
        if noise_masked.any:
            mask_2 = noise_masked.apply(above_quantile(guided.abs().sum(dim=1), self.thresholds))
        if self._attention_masked.any:
            assert attention is not None
            mask_1 = above_quantile(smooth(attention), self.thresholds)
            mask_1 = F.interpolate(mask_1[:, None], difference.shape[-2:], mode="nearest")[:, 0]
            mask_1 = self._attention_masked.apply(mask_1)
        places = torch.ones_like(guided[:, 0])
        for mask in (mask_1, mask_2):
            if mask is not None:
                guided, places = guided * mask[:, None], places * mask
        return guided, places


class _Choice:
    """Which concepts use a mask; the others have every place open."""

    def __init__(self, chosen: list[bool], device: torch.device) -> None:
        self.any, self._all = any(chosen), all(chosen)
        self._rows = torch.tensor(chosen, device=device)[:, None, None]

    def apply(self, mask: torch.Tensor) -> torch.Tensor:
        return mask if self._all else torch.where(self._rows, mask, 1.0)


def above_quantile(maps: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """1 where a map (K, H, W) reaches its own quantile, 0 elsewhere; `thresholds` (K,) in [0, 1].

    The quantile interpolates between order statistics as `torch.quantile` does, which takes one threshold only.
    """
    flat = maps.flatten(1).float()
    ordered = flat.sort(dim=1).values
    rank = thresholds.to(flat.dtype) * (flat.shape[1] - 1)
    below = rank.floor()
    low = ordered.gather(1, below.long()[:, None])
    high = ordered.gather(1, rank.ceil().long()[:, None])
    quantile = low.lerp(high, (rank - below)[:, None])
    return (flat >= quantile).to(torch.float32).view(maps.shape)


def smooth(maps: torch.Tensor) -> torch.Tensor:
    """Attention maps (K, h, w) blurred as in LEDITS++: 3×3, 1/e of the centre at distance one."""
    padded = F.pad(maps.float()[:, None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, _blur(maps.device))[:, 0]


@lru_cache
def _blur(device: torch.device) -> torch.Tensor:
    # Kept: a tensor that goes to a GPU at every step makes every step wait for the one before.
    line = torch.tensor([math.exp(-1), 1.0, math.exp(-1)], device=device)
    kernel = torch.outer(line, line)
    return (kernel / kernel.sum())[None, None]


class AttentionMaps:
    """Collects, during one UNet call, how much each place attends to each row's words.

    Only layers of the mask's resolution in the down and up path are read, and only the sum over a row's own words and
    all heads is kept: (rows, h·w) a layer instead of (rows·heads, h·w, tokens).
    """

    def __init__(self) -> None:
        self.height = self.width = 0
        self._words: torch.Tensor | None = None
        self._total: torch.Tensor | None = None
        self._heads = 0

    def start(self, words: torch.Tensor, height: int, width: int) -> None:
        """Collect h×w maps of the next UNet call's last R rows; `words` (R, T) is 1 at each row's own tokens."""
        self._words, self._total, self._heads = words, None, 0
        self.height, self.width = height, width

    def finish(self) -> torch.Tensor:
        """The maps (R, h, w) averaged over heads and layers, and stop collecting.

        Raises:
            LookupError: the UNet has no cross-attention of this resolution in its down or up path.
        """
        total = self._total
        self.stop()
        if total is None:
            raise LookupError(f"no cross-attention at {self.height}×{self.width}")
        return (total / self._heads).view(-1, self.height, self.width)

    def stop(self) -> None:
        """Collect nothing until the next `start`, and let go of what was collected."""
        self._words = self._total = None

    def wants(self, places: int) -> bool:
        """Whether a layer with this many query places is to be read now."""
        return self._words is not None and places == self.height * self.width

    def add(self, query: torch.Tensor, key: torch.Tensor, scale: float) -> None:
        """Read a layer: query (N, heads, h·w, d) and key (N, heads, T, d) of all rows."""
        assert self._words is not None
        rows = self._words.shape[0]
        # In float32: products of Stable Diffusion 2.1's queries and keys are larger than half precision can hold.
        products = torch.matmul(query[-rows:].float() * scale, key[-rows:].float().transpose(-1, -2))
        attention = products.softmax(dim=-1)
        summed = torch.einsum("rhqt,rt->rq", attention, self._words.float())
        self._total = summed if self._total is None else self._total + summed
        self._heads += query.shape[1]


class ReadableCrossAttention:
    """A diffusers attention processor: fused attention, which also shows `AttentionMaps` the layers that it wants."""

    def __init__(self, maps: AttentionMaps) -> None:
        self.maps = maps

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        temb: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert encoder_hidden_states is not None  # installed on cross-attention only

        def heads(x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query = heads(attn.to_q(hidden_states))
        key = heads(attn.to_k(encoder_hidden_states))
        value = heads(attn.to_v(encoder_hidden_states))
        if self.maps.wants(query.shape[2]):
            self.maps.add(query, key, attn.scale)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask)
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2)) / attn.rescale_output_factor


def install(unet: Any, maps: AttentionMaps, attention: Any) -> None:
    """Fused attention everywhere; cross-attention outside the middle block also shows itself to `maps`.

    Args:
        attention: diffusers' processor for the layers that `maps` does not read.
    """
    unet.set_attn_processor(
        {
            name: ReadableCrossAttention(maps) if "attn2" in name and not name.startswith("mid_block") else attention
            for name in unet.attn_processors
        }
    )
