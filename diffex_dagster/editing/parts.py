"""What every kind of editor has in a study file; see `editing.kinds`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image
from pydantic import ValidationError

from diffex_dagster.editing.checkpoints import locate_lora, native_side
from diffex_dagster.editing.loading import LoadingOptions
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import EditorError
from diffex_dagster.utils import config
from diffex_dagster.utils.hub import is_hub_id
from diffex_dagster.utils.mistakes import first_fault


@dataclass(frozen=True)
class Where(config.Where):
    """Where an editor is in a study file, and what it works with.

    Attributes:
        place: what the deployment says of editors that run a model: `device`, `dtype`, `batch_size`.
        calibrates: whether the study finds the options of each prompt by trying.
        names: key -> name of the sample images; none where they have not been read yet. Called when an edit is made.
        picture: opens a picture file and prepares it as the study's sample images are.
    """

    field: str = "editor"
    place: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    calibrates: bool = False
    names: Callable[[], Mapping[str, str]] = dict
    picture: Callable[[Path], Image.Image] = Image.open


class EditorPart(config.KindPart):
    """A kind of editor, which makes the edits and the null edits.

    A kind is a subclass beside its adapter, with `kind`, `build` and `method`, and one line in `editing.kinds`.
    """

    makes_edits: ClassVar[bool] = True  # False: edits are looked up, and what was not made before cannot be had
    calibrated: ClassVar[frozenset[str]] = frozenset()
    """Options that calibration finds; a study that sets one of them has been tuned by a person."""

    def build(self, where: Where) -> Editor:
        """The editor. Nothing heavy is loaded before an edit is made.

        Raises:
            EditorError: something that it is made of is missing.
        """
        raise NotImplementedError

    def method(self) -> str:
        """How it makes edits and null edits, in a sentence or two for the report."""
        raise NotImplementedError

    def placed(self, where: Where) -> Self:
        """The same where it works as this deployment says; its own options say so where it runs no model of ours.

        Raises:
            EditorError: an option does not go with that place.
        """
        return self

    def works_on(self) -> str | None:
        """The device that its options name; None where they name none."""
        return None

    def calibrates(self, asked: bool | None) -> bool:
        """Whether its options are found by trying, in a study that has a judge.

        Args:
            asked: what the study says (`calibrate`); None where it leaves that to the editor.
        """
        return False

    def pinned(self) -> dict[str, str]:
        """Prompt -> the options that the study names for it, as `Concept.setting` has them."""
        return {}

    def grid(self, alike: Callable[[str], bool] = lambda setting: True) -> Sequence[tuple[str, str]]:
        """(what it changes, the setting that asks for it) of other options that are worth a look; empty: none.

        Args:
            alike: as the editor has it (`Calibrates.alike`): settings for which it does not hold are left out.
        """
        return ()

    def shown(self) -> dict[str, object]:
        """Options that a preview's page names."""
        return {}

    def hub_checkpoint(self, where: Where) -> str | None:
        """The hub id of its model; None where it has none, or that is in a folder."""
        return None

    def trained_at(self, where: Where) -> tuple[str, int] | None:
        """Its model, and the side in pixels of the pictures that this was trained on, where that is known."""
        return None

    def check_extras(self, where: Where) -> str:
        """Look for what it adds to a hub checkpoint (LoRAs), without loading it; what has been found, in words ("":
        nothing is added).

        Raises:
            EditorError: something is missing.
        """
        return ""


class CheckpointPart(LoadingOptions, EditorPart):
    """An editor that runs a diffusion model: a hub id, or a folder beside the study file."""

    if TYPE_CHECKING:
        checkpoint: str

    def located(self, where: Where) -> dict[str, Any]:
        """Its options, what they name beside the study file made absolute."""
        options: dict[str, Any] = self.model_dump(exclude={"kind"})
        options["checkpoint"] = where.checkpoint(self.checkpoint)
        options["loras"] = [each | {"checkpoint": where.checkpoint(each["checkpoint"])} for each in options["loras"]]
        return options

    def placed(self, where: Where) -> Self:
        """With the deployment's device, precision and batch size."""
        try:
            return type(self)(**{**self.model_dump(), **where.place})
        except ValidationError as error:
            why = first_fault(error)
            raise EditorError(f"{where.field}, with {dict(where.place)} from the deployment: {why}") from error

    def works_on(self) -> str:
        """Its `device`."""
        return self.device

    def hub_checkpoint(self, where: Where) -> str | None:
        """Its checkpoint, where that is a hub's."""
        return self.checkpoint if is_hub_id(where.checkpoint, self.checkpoint) else None

    def trained_at(self, where: Where) -> tuple[str, int] | None:
        """As the checkpoint's configuration says; nothing is downloaded."""
        side = native_side(where.checkpoint(self.checkpoint))
        return None if side is None else (self.checkpoint, side)

    def check_extras(self, where: Where) -> str:
        """The LoRAs that are files of this machine."""
        for lora in self.loras:
            if not is_hub_id(where.checkpoint, lora.checkpoint):
                locate_lora(where.checkpoint(lora.checkpoint), lora.file, lora.revision)
        return "its LoRAs are there, or come from the hub" if self.loras else ""
