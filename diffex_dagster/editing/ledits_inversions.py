"""What the edits of LEDITS++ start from: pictures inverted once, under what they show, and kept for the next edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from diffex_dagster.editing.image_prompts import ImagePrompt, ImagePrompts
from diffex_dagster.editing.inversions import InversionsInMemory, InversionsOnDisk, Key, inversion_seed
from diffex_dagster.editing.ledits_options import LeditsOptions
from diffex_dagster.editing.pixels import Pictures
from diffex_dagster.editing.protocol import EditRequest
from diffex_dagster.editing.source_prompts import source_prompt_of

if TYPE_CHECKING:
    import torch

    from diffex_dagster.editing.edit_plan import Inversion
    from diffex_dagster.editing.engine import Engine


class LeditsInversions:
    """The inversions and source prompts of one editor's images: kept, or made at the first edit that needs them.

    Args:
        options: the editor's.
        settings: gives the hash of all that an inversion depends on beside picture and seed; asked for once, by the
            first edit, where inversions are kept in a folder.

    Attributes:
        image_prompts: what pictures show, by the keys of images, to be kept by the caller.
        shortened: source prompts that the text encoder had no room for: (digest of a picture, prompt of an edit; "" for
            the picture's own).
    """

    def __init__(self, options: LeditsOptions, settings: Callable[[], str]) -> None:
        self.options, self._settings = options, settings
        self.image_prompts = ImagePrompts()
        self.shortened: set[tuple[str, str]] = set()
        self._shown: dict[str, ImagePrompt] = {}  # digest of a picture -> what it shows, whatever its inversion skips
        self.forget()

    def forget(self) -> None:
        """Let go of the inversions that are kept in memory for later calls."""
        self._in_memory = InversionsInMemory(self.options.inversion_cache_mb * 2**20)

    def of(
        self, own: Engine, engine: Engine, pictures: Pictures, batch: Sequence[EditRequest], rows: int
    ) -> dict[tuple[str, int, bool], Inversion]:
        """The inversion of every (image, seed, described) in a batch; each alone, so that no other edit matters.

        Edits under different options share it, as long as they leave out as much of the noisy end.

        Args:
            own: the engine with the skip of the editor's own options: it describes pictures.
            engine: the same with the skip of the batch: it inverts them.
            pictures: those that are edited.
            batch: edits that leave out as much of the noisy end.
            rows: UNet rows at a time.
        """
        import torch

        found, skip = {}, self.options.skip_of(batch[0])
        for image, seed, described in dict.fromkeys((r.image, r.seed, self.options.described_of(r)) for r in batch):
            picture = pictures.digest(image)
            kept_as = picture if skip == self.options.skip else f"{picture} skip {skip}"
            key = (kept_as if described else f"{kept_as} undescribed", seed)
            inversion = self._kept(key, engine.device)
            if inversion is None:
                latents = engine.encode(pictures.tensor(image)[None])
                shows = self._image_prompt(own, image, picture, latents[0], rows).shows if described else ()
                generator = torch.Generator().manual_seed(inversion_seed(picture, seed))
                [inversion] = engine.invert(latents, [generator], rows, [shows])
                self._in_memory.put(key, inversion)
                if self._on_disk:
                    self._on_disk.put(key, inversion)
            found[image, seed, described] = inversion
        return found

    def _image_prompt(self, own: Engine, image: str, picture: str, latents: torch.Tensor, rows: int) -> ImagePrompt:
        """What a picture shows: as somebody knows it, or found now, by the editor's own steps whatever the edit skips.

        Args:
            image: key of the image.
            picture: digest of its pixels.
        """
        if picture not in self._shown:
            known = self.image_prompts.told.get(image)
            if known is None:
                shows, cut = source_prompt_of(own, latents, self.options.vocabulary, rows)
                known = self.image_prompts.found[image] = ImagePrompt(shows, bool(cut))
            self._shown[picture] = known
            self.shortened |= {(picture, "")} if known.cut else set()
        return self._shown[picture]

    def _kept(self, key: Key, device: torch.device) -> Inversion | None:
        inversion = self._in_memory.get(key)
        if inversion is None and self._on_disk:
            inversion = self._on_disk.get(key, device)
            if inversion is not None:
                self._in_memory.put(key, inversion)
        return inversion

    @cached_property
    def _on_disk(self) -> InversionsOnDisk | None:
        folder = self.options.inversion_folder
        if folder is None:
            return None
        return InversionsOnDisk(folder, self.options.inversion_folder_mb * 2**20, self._settings())
