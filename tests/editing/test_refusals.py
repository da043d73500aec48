"""Checkpoints that would be edited wrongly are refused, and half precision does not overflow."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from diffex_dagster.editing.engine import check_latents
from diffex_dagster.editing.guidance import AttentionMaps, ReadableCrossAttention
from diffex_dagster.editing.loading import LoadingOptions, attention_processor
from diffex_dagster.editing.solver import timetable
from diffex_dagster.errors import EditorError

BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


@pytest.mark.parametrize("name", ["dpm", "ddim"])
def test_a_noise_schedule_that_is_not_known_is_refused(name: str) -> None:
    assert len(timetable(name, BETAS, 10, 0.0)) == 10  # type: ignore[arg-type]
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    edm = {"_class_name": "EDMDPMSolverMultistepScheduler", "sigma_data": 0.5, "sigma_max": 80.0, **BETAS}
    with pytest.raises(EditorError, match="names no betas"):
        timetable(name, flow, 10, 0.0)  # type: ignore[arg-type]
    with pytest.raises(EditorError, match="sigma_data"):
        timetable(name, edm, 10, 0.0)  # type: ignore[arg-type]


def test_an_autoencoder_that_shifts_its_latents_is_refused() -> None:
    check_latents(SimpleNamespace(scaling_factor=0.18215, latents_mean=None, shift_factor=None))
    with pytest.raises(EditorError, match="latents_mean"):
        check_latents(SimpleNamespace(scaling_factor=0.5, latents_mean=[-1.6, 1.4, 0.6, -0.3]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_attention_whose_products_half_precision_cannot_hold_is_computed_without_overflow(dtype: torch.dtype) -> None:
    """As Stable Diffusion 2.1's: products of a million. Both processors of the editor agree with full precision."""
    from diffusers.models.attention_processor import Attention, AttnProcessor

    torch.manual_seed(0)
    layer = Attention(query_dim=64, cross_attention_dim=32, heads=2, dim_head=32)
    with torch.no_grad():
        layer.to_q.weight.mul_(60)
        layer.to_k.weight.mul_(60)
    layer.requires_grad_(False).to(dtype)
    pictures, words = (10 * torch.randn(2, 16, 64)).to(dtype), (10 * torch.randn(2, 7, 32)).to(dtype)
    products = layer.to_q(pictures).float() @ layer.to_k(words).float().transpose(1, 2)
    assert products.abs().max() > torch.finfo(torch.float16).max
    exact = Attention(query_dim=64, cross_attention_dim=32, heads=2, dim_head=32, processor=AttnProcessor())
    exact.load_state_dict({name: value.float() for name, value in layer.state_dict().items()})
    with torch.no_grad():
        wanted = exact(pictures.float(), encoder_hidden_states=words.float())

    fused = attention_processor(LoadingOptions(), torch.device("cpu"))
    for processor in (ReadableCrossAttention(AttentionMaps()), fused):
        layer.set_processor(processor)
        found = layer(pictures, encoder_hidden_states=words)
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), wanted, atol=0.01 * float(wanted.abs().max()), rtol=0.0)
    if dtype == torch.float16:  # what diffusers computes step by step does overflow
        layer.set_processor(AttnProcessor())
        assert not torch.isfinite(layer(pictures, encoder_hidden_states=words)).all()


def test_attention_that_half_precision_cannot_hold_is_read_without_overflow() -> None:
    torch.manual_seed(0)
    query, key = (30 * torch.randn(2, 4, 16, 64)).half(), (300 * torch.randn(2, 4, 7, 64)).half()
    scale = 1.0
    assert not torch.isfinite(torch.matmul(query * scale, key.transpose(-1, -2))).all()  # the products do overflow
    maps = AttentionMaps()
    words = torch.zeros(2, 7)
    words[:, 2] = 1
    maps.start(words, 4, 4)
    maps.add(query, key, scale)
    assert torch.isfinite(maps.finish()).all()
