"""Train the demo checkpoint's tokenizer and text encoder on captions alone, before any picture is generated.

Run `python -m training.text`. A text encoder that is trained together with the UNet from nothing never learns to tell
captions apart; one that was first taught to say which concepts a caption names conditions the UNet well. Words outside
the world's vocabulary are spelled letter by letter and taught to name nothing, so that an edit towards "earrings" asks
for no change instead of a random one.
"""

from __future__ import annotations

import argparse
import json
import random
import string
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diffex_dagster.worlds import avatars
from diffex_dagster.worlds.base import Named, World
from training import common, data

MAX_TOKENS = 40


def concepts(world: World) -> list[Named]:
    """What captions of a world can name, each once."""
    return sorted(set(world.phrases.values()))


CONCEPTS = concepts(avatars.WORLD)


def build_tokenizer(folder: Path, world: World = avatars.WORLD, max_tokens: int = MAX_TOKENS) -> CLIPTokenizer:
    """A CLIP tokenizer in which every word of the world is one token and every other word is spelled in letters."""
    sentences = [*world.phrases, *(prefix + "x" for prefix in world.prefixes), "a b, c and d"] * 2
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    bpe.normalizer = normalizers.Lowercase()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(vocab_size=20_000, min_frequency=1, end_of_word_suffix="</w>", show_progress=False)
    bpe.train_from_iterator(sentences, trainer)
    merges = json.loads(bpe.to_str())["model"]["merges"]
    merges = [tuple(merge.split()) if isinstance(merge, str) else tuple(merge) for merge in merges]
    letters = sorted(set("".join(pre_tokenizers.ByteLevel.alphabet())))
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge) for merge in merges)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    (folder / "merges.txt").write_text(
        "#version: 0.2\n" + "\n".join(" ".join(merge) for merge in merges) + "\n", "utf-8"
    )
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=max_tokens)
    tokenizer.save_pretrained(folder)
    return tokenizer


def tokens(tokenizer: CLIPTokenizer, sentences: list[str], max_tokens: int = MAX_TOKENS) -> np.ndarray:
    """Token numbers (sentences, max_tokens), int16, padded."""
    read = tokenizer(sentences, padding="max_length", truncation=True, max_length=max_tokens, return_tensors="np")
    return read.input_ids.astype(np.int16)


def build_encoder(tokenizer: CLIPTokenizer, width: int = 128, max_tokens: int = MAX_TOKENS) -> CLIPTextModel:
    """The untrained text encoder: two layers."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=2,
            num_attention_heads=4,
            projection_dim=width,
            max_position_embeddings=max_tokens,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def nonsense_word(rng: random.Random, longest: int = 9) -> str:
    """Three to `longest` random letters."""
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(3, longest)))


def nonsense(rng: random.Random) -> str:
    """One to three words of random letters; none of them names anything."""
    words = [nonsense_word(rng) for _ in range(rng.randint(1, 3))]
    return rng.choice(["", "a ", "a person with "]) + " ".join(words)


def named_concepts(text: str) -> list[int]:
    """Indices into CONCEPTS of what a caption names; the longest phrases are read first."""
    rest, found = text, []
    for phrase in sorted(avatars.PHRASES, key=len, reverse=True):
        if phrase in rest:
            rest = rest.replace(phrase, "|")
            found.append(CONCEPTS.index(avatars.PHRASES[phrase]))
    return found


class NamingHead(nn.Module):
    """Which concepts does the caption name? Asked of the pooled state and of the mean token state."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.pooled, self.mean = nn.Linear(width, count), nn.Linear(width, count)

    def forward(self, output, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = (output.last_hidden_state * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.pooled(output.pooler_output), self.mean(mean)


def train(steps: int, batch: int, out: Path, seed: int = 0) -> None:
    """Train on captions of freshly drawn states and save tokenizer and encoder under `out`."""
    common.setup(seed)
    rng = random.Random(seed)
    tokenizer = build_tokenizer(out / "tokenizer")
    for phrase in avatars.PHRASES:
        assert len(tokenizer.tokenize(phrase)) <= 2 * len(phrase.replace("-", " - ").split()), tokenizer.tokenize(
            phrase
        )
    encoder = build_encoder(tokenizer).train()
    head = NamingHead(encoder.config.hidden_size, len(CONCEPTS))
    parameters = [*encoder.parameters(), *head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, steps)
    progress = common.Progress(steps, 200)
    states = data.states(data.TRAIN_SEED, 30_000)
    for step in range(1, steps + 1):
        captions = [
            nonsense(rng) if rng.random() < 0.1 else avatars.caption(rng.choice(states), rng) for _ in range(batch)
        ]
        read = tokenizer(captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        target = torch.zeros(batch, len(CONCEPTS))
        for row, text in enumerate(captions):
            target[row, named_concepts(text)] = 1
        logits = head(encoder(read.input_ids), read.attention_mask)
        loss = sum(nn.functional.binary_cross_entropy_with_logits(logit, target, reduction="sum") for logit in logits)
        loss = loss / batch
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        progress(step, loss.item())
    encoder.eval().save_pretrained(out / "text_encoder")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--out", type=Path, default=data.CACHE)
    arguments = parser.parse_args()
    train(arguments.steps, arguments.batch, arguments.out)
