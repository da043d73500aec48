"""Small random pipelines of the instruction editors that diffusers has, saved as the hub's are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

AVATARS = Path(__file__).parent.parent.parent / "studies" / "avatars" / "editor"


def save_kontext(folder: Path) -> Path:
    """FLUX Kontext: a rectified-flow transformer with a CLIP and a T5 encoder."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxKontextPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

    torch.manual_seed(0)
    text = CLIPTextModel.from_pretrained(AVATARS / "text_encoder").float()
    tokens = ["<pad>", "</s>", "<unk>", *"▁abcdefghijklmnopqrstuvwxyz"]
    width = text.config.hidden_size
    pipeline = FluxKontextPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(
            block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, latent_channels=4, norm_num_groups=4,
            sample_size=64, use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.1, scaling_factor=0.4,
        ),
        text_encoder=text,
        tokenizer=CLIPTokenizer.from_pretrained(AVATARS / "tokenizer"),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=160, d_model=32, d_ff=32, d_kv=8, num_layers=1, num_heads=2)
        ),
        tokenizer_2=T5TokenizerFast(vocab=[(token, -3.0) for token in tokens]),
        transformer=FluxTransformer2DModel(
            in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
            joint_attention_dim=32, pooled_projection_dim=width, axes_dims_rope=(4, 4, 8), guidance_embeds=True,
        ),
    )  # fmt: skip
    pipeline.save_pretrained(folder)
    return folder


class QwenProcessor:
    """The halves of Qwen2VLProcessor that a picture and a sentence need; the whole needs torchvision, for videos."""

    def __init__(self, tokenizer: Any, images: Any) -> None:
        self.tokenizer, self.images = tokenizer, images

    def __call__(self, text: list[str], images: Any, **options: Any) -> Any:
        from transformers import BatchFeature

        looked = self.images(images=images, return_tensors="pt")
        counts = looked["image_grid_thw"].prod(dim=1) // self.images.merge_size**2
        filled = [
            sentence.replace("<|image_pad|>", "<|image_pad|>" * int(count))
            for sentence, count in zip(text, counts, strict=True)
        ]
        return BatchFeature({**self.tokenizer(filled, padding=True, return_tensors="pt"), **looked})


def qwen_edit() -> Any:
    """Qwen-Image-Edit, in memory: without torchvision its processor loads from no folder."""
    from diffusers import (
        AutoencoderKLQwenImage,
        FlowMatchEulerDiscreteScheduler,
        QwenImageEditPipeline,
        QwenImageTransformer2DModel,
    )
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    torch.manual_seed(0)
    bytes_ = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
               "<|video_pad|>"]  # fmt: skip
    tokenizer = Qwen2Tokenizer(vocab={each: i for i, each in enumerate(bytes_)}, merges=[])
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in special}
    config = Qwen2_5_VLConfig(
        text_config={
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "vocab_size": len(tokenizer),
            "rope_parameters": {"mrope_section": [1, 1, 2], "rope_type": "default", "rope_theta": 1e6},
            "bos_token_id": ids["<|endoftext|>"], "eos_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16,
            "fullatt_block_indexes": [0],
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    return QwenImageEditPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKLQwenImage(
            base_dim=24, z_dim=4, dim_mult=[1, 2, 4], num_res_blocks=1, temperal_downsample=[False, True],
            latents_mean=[0.0] * 4, latents_std=[1.0] * 4,
        ),
        text_encoder=Qwen2_5_VLForConditionalGeneration(config).eval(),
        tokenizer=tokenizer,
        processor=QwenProcessor(tokenizer, Qwen2VLImageProcessorPil(min_pixels=28 * 28, max_pixels=56 * 56)),
        transformer=QwenImageTransformer2DModel(
            patch_size=2, in_channels=16, out_channels=4, num_layers=1, attention_head_dim=16, num_attention_heads=1,
            joint_attention_dim=16, guidance_embeds=False, axes_dims_rope=(8, 4, 4),
        ),
    )  # fmt: skip
