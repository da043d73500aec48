"""The diffusion editor: LEDITS++ (Brack et al., CVPR 2024, arXiv 2311.16711) behind the `Editor` protocol.

This module decides which edits share a batch; `ledits_inversions` has what they start from, and the algorithm itself is
in `engine`, `guidance` and `solver`. Importing it loads neither torch nor diffusers: a run whose edits are all stored
never needs them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from PIL import Image

from diffex_dagster.editing import checkpoints
from diffex_dagster.editing.batches import check_requests, cut
from diffex_dagster.editing.ledits_inversions import LeditsInversions
from diffex_dagster.editing.ledits_options import NOT_INVERSION, NOT_PIXELS, LeditsOptions
from diffex_dagster.editing.loading import placement
from diffex_dagster.editing.parts import CheckpointPart, Where
from diffex_dagster.editing.pixels import Pictures
from diffex_dagster.editing.protocol import MASK, Concept, EditRequest
from diffex_dagster.editing.settings import UNPUSHED, ConceptOptions, kind_of, read_setting, worth_trying
from diffex_dagster.editing.vocabulary import Vocabulary, may_not_fit
from diffex_dagster.utils.devices import made_if_it_fits
from diffex_dagster.utils.hashing import digest
from diffex_dagster.utils.secrets import logger

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from diffex_dagster.editing.engine import Engine
    from diffex_dagster.judging.protocol import Judge

    _Masks = dict[int, NDArray[np.uint8]]  # place in a batch -> (h, w) of the latents, 255 where the edit was guided
    _Batch = tuple[list[EditRequest], torch.Tensor, _Masks]

log = logger(__name__)

EDITS_AT_ONCE = 16  # of one concept: 32 UNet rows, the same on every device (see `LeditsEditor.batches`)
_DECODED_AT_ONCE = 4  # pictures of a batch: Stable Diffusion XL's autoencoder takes gigabytes for each, in float32
_TOO_LARGE = (
    "one edit at a time does not fit into the device's memory: ask for a smaller resolution, "
    'dtype: "float16", or another device'
)
_USUAL_TOKENS = 75  # that a text encoder of Stable Diffusion reads
SCALES, THRESHOLDS, SKIPS = (1.0, 3.0, 5.0, 10.0), (0.5, 0.75, 0.9), (0.0, 0.1, 0.3)  # of a preview's grid


class LeditsEditorPart(LeditsOptions, CheckpointPart):
    """LEDITS++ on a Stable Diffusion checkpoint: a hub id, or a folder beside the study file."""

    calibrated: ClassVar[frozenset[str]] = frozenset({"scale", "threshold", "mask", "warmup", "cooldown", "skip"})

    renamed: ClassVar[Mapping[str, str]] = {"describe": "source_prompts"}

    kind: Literal["ledits"] = "ledits"

    def build(self, where: Where) -> LeditsEditor:
        """A `LeditsEditor`; its checkpoint is looked for when its fingerprint is asked for."""
        options = self.options(where)
        if where.calibrates:  # a prompt's own options are then its setting, and no part of what every edit depends on
            options = options.model_copy(update={"prompts": {}})
        return LeditsEditor(options)

    def options(self, where: Where) -> LeditsOptions:
        """The editor's options as the study writes them, with what they name beside the study file made absolute."""
        options = self.located(where)
        options["config"] = where.checkpoint(self.config) if self.config else self.config
        folder = self.inversion_folder
        return LeditsOptions(**options | {"inversion_folder": folder if folder is None else where.path(folder)})

    def method(self) -> str:
        """Inversion and null edit."""
        return (
            "A diffusion model (LEDITS++) inverts every sample image and edits it towards one attribute, and once more "
            "with no guidance at all: the null edit, which carries whatever inverting and decoding does to the picture."
        )

    def calibrates(self, asked: bool | None) -> bool:
        """Where the study says so, or sets none of these options."""
        return not self.model_fields_set & self.calibrated if asked is None else asked

    def pinned(self) -> dict[str, str]:
        """Those of `prompts`."""
        return {prompt: self.setting(Concept(prompt)).text for prompt in self.prompts}

    def grid(self, alike: Callable[[str], bool] = lambda setting: True) -> list[tuple[str, str]]:
        """Scale by threshold, and scales without a mask; scale by skip where the editor's own options have no mask."""
        second, values = ("skip", SKIPS) if self.mask == "none" else ("threshold", THRESHOLDS)
        tried = [
            (f"scale {scale:g}, {second} {value:g}", self.own.model_copy(update={"scale": scale, second: value}))
            for scale, value in itertools.product(SCALES, values)
        ]
        for scale in SCALES[:-1] if self.mask != "none" else ():  # no hard push of the whole picture
            free = self.own.model_copy(update={"scale": scale, "mask": "none"})
            whole = free.model_copy(update={"skip": 0.0})  # what is not pushed draws from the first noise on
            unpushed = scale <= UNPUSHED and alike(whole.text)
            tried.append((f"scale {scale:g}, no mask" + ", skip 0" * unpushed, whole if unpushed else free))
        return [(name, setting.text) for name, setting in tried if alike(setting.text)]

    def shown(self) -> dict[str, object]:
        """Steps, skip, and how a concept is guided."""
        names = ["steps", "skip", *ConceptOptions.model_fields]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class LeditsEditor:
    """An `Editor` that edits with LEDITS++.

    Nothing is read until `fingerprint` or `edit` is asked for, and no model is loaded until an edit is.
    """

    def __init__(self, options: LeditsOptions) -> None:
        self.options = options
        self._inversions = LeditsInversions(options, lambda: self._hash(NOT_INVERSION))
        self._engine: Engine | None = None
        self._model_of: LeditsEditor = self  # whose loaded model this one edits with
        self._others: dict[str, LeditsEditor] = {}  # vocabulary -> the editor that describes pictures in it
        self.shortened = self._inversions.shortened
        self.image_prompts = self._inversions.image_prompts
        self._rows = 2 * self._edits_at_once  # UNet rows at a time: halved where memory does not suffice
        self._decoded_at_once = _DECODED_AT_ONCE  # as well

    @property
    def fingerprint(self) -> str:
        """Hash of all that changes a pixel: weights, options, code, library versions, device kind and dtype.

        Raises:
            EditorError: the checkpoint is missing.
        """
        return self._hash(NOT_PIXELS)

    @property
    def identity(self) -> dict[str, Any]:
        """What the fingerprint is a hash of, for a message that says why two differ.

        The device is the one that this process edits on: "auto" is resolved, and of "cuda:1" the kind counts. Kinds of
        device round differently, so that edits made on a GPU and on a CPU are kept apart.
        """
        return self._identity(NOT_PIXELS)

    @property
    def describer(self) -> str:
        """See `PromptsImages.describer`; the order of the words decides what is said first, and so what is left out.

        Raises:
            EditorError: the checkpoint is missing.
        """
        words = self.options.vocabulary
        return digest("describer", self._hash(NOT_INVERSION), list(words)) if words else ""

    def _hash(self, leave_out: set[str]) -> str:
        return hashlib.sha256(json.dumps(self._identity(leave_out), sort_keys=True).encode()).hexdigest()

    def _identity(self, leave_out: set[str]) -> dict[str, Any]:
        in_order = bool(self.options.vocabulary) and self._cuts
        return self.options.identity(checkpoints.content_hash(self._checkpoint), self.placement, leave_out, in_order)

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """Make the edits a batch at a time, as `batches` cuts them (see `Editor.edit`).

        Edits that are held to masks carry the union of them over concepts and steps (`protocol.MASK`).

        Raises:
            EditorError: the checkpoint is missing or cannot be loaded, a picture is missing, a prompt is empty, or one
                edit does not fit into memory.
        """
        for batch, pictures, masks in self._batches(images, requests):
            pixels = (pictures * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            made = [Image.fromarray(p) for p in pixels]
            for i, mask in masks.items():
                made[i].info[MASK] = Image.fromarray(mask)
            yield list(zip(batch, made, strict=True))

    def edit_tensors(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[tuple[list[EditRequest], torch.Tensor]]:
        """As `edit`, but with the pictures (N, 3, H, W), float32 in [0, 1], still on the device."""
        for batch, pictures, _ in self._batches(images, requests):
            yield batch, pictures

    def _batches(self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]) -> Iterator[_Batch]:
        """The requests, their pictures as `edit_tensors` has them, and the masks of those that are held to one."""
        check_requests(images, requests)
        checkpoint = self._checkpoint  # one that is missing is reported before any work
        if not requests:
            return
        self.check_settings(requests)
        engine = self._load(checkpoint)
        pictures = Pictures(images, self.options.resolution or engine.resolution, engine.side_multiple)
        before = len(self.shortened)
        for batch in self.batches(requests):
            while (made := self._try(engine, pictures, batch, self._rows)) is None:
                self._rows //= 2
                log.warning(
                    "out of memory: going on with %d UNet rows at a time; pictures differ by rounding from those of a "
                    "run that has memory for more",
                    self._rows,
                )
            yield batch, *made
        if shortened := len(self.shortened) - before:
            log.warning(
                "%d source prompts, of images and in edits, were shortened: the checkpoint reads %d tokens, and what "
                "explains least of a picture was left out",
                shortened,
                self.most_tokens,
            )

    def batches(self, requests: Sequence[EditRequest]) -> list[list[EditRequest]]:
        """The requests as they are edited together, in order: what shares a batch can change the last bits of a pixel.

        A batch holds edits of as many concepts each, in an order of their own, and all but the last of a kind hold
        equally many. So whichever batches are done, what is left is cut into the same batches again: by a run that goes
        on where another stopped, and by any number of processes that share the work.
        """
        return cut(requests, self._edits_at_once, self.options.skip_of)

    def settings(self, region: str | None = None, group: str | None = None) -> list[str]:
        """The settings that calibration tries; see `Calibrates.settings`."""
        words, kind = self._exact and bool(self.options.vocabulary), kind_of(region, group)
        tried = worth_trying(self.options.own, self.options.steps, kind, skips=self._exact, words=words)
        return ["" if each == self.options.own else each.text for each in tried]

    @property
    def _exact(self) -> bool:
        """Whether null edits give the picture back whatever the skip and the description."""
        own = self.options.zero_noise_steps  # None: as the engine takes it, 3 for XL
        return self.options.correct_end and not (checkpoints.is_xl(self._checkpoint.folder) if own is None else own)

    def check_settings(self, requests: Sequence[EditRequest]) -> None:
        """See `Calibrates.check_settings`."""
        if not self._exact:
            self.options.check_alike(requests)

    def alike(self, setting: str) -> bool:
        """See `Calibrates.alike`."""
        return self._exact or self.options.alike(read_setting(setting) if setting else self.options.own)

    def variants(self, setting: str) -> list[str]:
        """The same push without words, then with other skips and a later start; see `Calibrates.variants`."""
        alike = {"skip": 0.0, "warmup": 0, "described": True}
        own = (read_setting(setting) if setting else self.options.own).model_copy(update=alike)
        tried = [(each, read_setting(each) if each else self.options.own) for each in self.settings()]
        found = [(each, read) for each, read in tried if each != setting and read.model_copy(update=alike) == own]
        return [each for each, read in sorted(found, key=lambda each: each[1].described)]

    # -- one batch -------------------------------------------------------------------------------------------------

    def _try(
        self, engine: Engine, pictures: Pictures, batch: list[EditRequest], rows: int
    ) -> tuple[torch.Tensor, _Masks] | None:
        """The edited pictures and their masks, or None if they did not fit into memory."""
        return made_if_it_fits(
            lambda: self._make(engine, pictures, batch, rows), engine.device.type, _TOO_LARGE * (rows == 1)
        )

    def _make(
        self, engine: Engine, pictures: Pictures, batch: list[EditRequest], rows: int
    ) -> tuple[torch.Tensor, _Masks]:
        import torch

        from diffex_dagster.editing.ledits_edits import edit_of

        skip = self.options.skip_of(batch[0])
        own, engine = engine, engine if skip == self.options.skip else engine.skipping(skip)
        inversions = self._inversions.of(own, engine, pictures, batch, rows)
        edits = []
        for request in batch:
            inversion = inversions[request.image, request.seed, self.options.described_of(request)]
            edit, cut_short = edit_of(engine, inversion, request, self.options)
            edits.append(edit)
            self.shortened |= {(pictures.digest(request.image), prompt) for prompt in cut_short}
        steps = len(engine.steps)
        changed = [i for i, edit in enumerate(edits) if edit.start(steps) < steps]
        latents = torch.stack([edit.inversion.latents[-1] for edit in edits])
        opened = torch.zeros(0)
        if changed:
            latents[changed], opened = engine.edit_with_masks([edits[i] for i in changed], rows)
        made = self._decoded(engine, latents)
        levels = (opened.byte() * 255).cpu().numpy()  # only now: a copy from a GPU waits for all that was asked of it
        return made, {i: levels[place] for place, i in enumerate(changed) if edits[i].masked}

    def _decoded(self, engine: Engine, latents: torch.Tensor) -> torch.Tensor:
        """Pictures of latents, fewer at a time where memory does not suffice: the UNet's rows stay as they are."""
        import torch

        def made() -> torch.Tensor:
            return torch.cat([engine.decode(part) for part in latents.split(self._decoded_at_once)])

        device = engine.device.type
        while (pictures := made_if_it_fits(made, device, _TOO_LARGE * (self._decoded_at_once == 1))) is None:
            self._decoded_at_once //= 2
            log.warning("out of memory: going on with %d pictures decoded at a time", self._decoded_at_once)
        return pictures

    def engine(self) -> Engine:
        """The loaded checkpoint, for code that asks its model something else; loads it at the first call.

        Raises:
            EditorError: the checkpoint is missing or cannot be loaded.
        """
        return self._load(self._checkpoint)

    def judge(self, draws: int) -> Judge:
        """The editor's own model as the judge of its edits (see `judging.diffusion`)."""
        from diffex_dagster.judging.diffusion import DiffusionJudge

        return DiffusionJudge(self, draws)

    def with_options(self, **changes: object) -> LeditsEditor:
        """An editor on the same loaded model with other options, of those that ask nothing else of the model.

        Args:
            changes: of `ConceptOptions`' fields, `prompts` and `batch_size`.
        """
        other = LeditsEditor(self.options.model_copy(update=changes))
        other._engine = self.engine()
        return other

    def with_source_prompts(self, vocabulary: Vocabulary) -> LeditsEditor:
        """The editor, on the same model, which describes pictures in these words; in none where there are none.

        The same vocabulary gives the same editor, with the inversions that it keeps in memory.
        """
        words = json.dumps({name: group.model_dump(mode="json") for name, group in vocabulary.items()})
        if words not in self._others:
            update = {"source_prompts": dict(vocabulary) or "none"}
            self._others[words] = LeditsEditor(self.options.model_copy(update=update))
            self._others[words]._model_of = self._model_of
        return self._others[words]

    def tokens(self, prompt: str) -> int:
        """How many tokens of the model's text encoder a prompt takes."""
        return len(self._tokenizer(prompt).input_ids) - 2

    @property
    def most_tokens(self) -> int:
        """How many tokens the model's text encoder reads, without those of the start and the end."""
        return int(self._tokenizer.model_max_length) - 2

    @cached_property
    def _cuts(self) -> bool:
        """Whether there are pictures that show more words than the text encoder reads."""
        if not (self._checkpoint.folder / "tokenizer").is_dir():  # of a single file, which this does not load
            return may_not_fit(self.options.vocabulary, lambda prompt: (len(prompt) + 1) // 2, _USUAL_TOKENS)
        return may_not_fit(self.options.vocabulary, self.tokens, self.most_tokens)

    @cached_property
    def _tokenizer(self) -> Any:
        """Of the text encoder; read without the model where the checkpoint has it in a folder of its own."""
        folder = self._checkpoint.folder / "tokenizer"
        if not folder.is_dir():
            return self.engine().components.tokenizers[-1]
        from transformers import CLIPTokenizer

        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    # -- loading and sizes -----------------------------------------------------------------------------------------

    @cached_property
    def _checkpoint(self) -> checkpoints.Checkpoint:
        self.options.check()
        return checkpoints.locate(self.options.checkpoint, self.options.revision, self.options.config)

    @cached_property
    def placement(self) -> tuple[str, str]:
        """Device and dtype by name, with "auto" resolved."""
        return placement(self.options)

    @property
    def _edits_at_once(self) -> int:
        return self.options.batch_size or EDITS_AT_ONCE

    def forget_inversions(self) -> None:
        """Let go of the inversions that are kept in memory for later calls."""
        self._inversions.forget()
        for other in self._others.values():
            other.forget_inversions()

    def _load(self, checkpoint: checkpoints.Checkpoint) -> Engine:
        if self._model_of is not self:
            return self._model_of._load(checkpoint)
        if self._engine is None:
            import torch

            from diffex_dagster.editing.engine import Engine

            device, dtype = self.placement
            self._engine = Engine(checkpoint, self.options, torch.device(device), getattr(torch, dtype))
        return self._engine
