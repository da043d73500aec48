"""What an editor is: one method that turns requests into pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from PIL import Image

from diffex_dagster.corpus.tree import Direction

if TYPE_CHECKING:
    from diffex_dagster.editing.vocabulary import VocabularyGroup

MASK = "edit_mask"
"""Key in the `info` of an edited picture: where the editor allowed the edit to change it, for editors that know.

A PIL picture of mode L and any size, stretched over the edited one; not 0 where a change was allowed. The report then
says how much of the change stayed inside. Nothing else depends on it, and a picture without it is as good.
"""


@dataclass(frozen=True)
class FiledPicture:
    """An edited picture that a worker has written already: what a row says of it, in place of its pixels."""

    file: str  # relative to the folder of the pictures
    size: tuple[int, int]
    mode: str = "RGB"
    info: Mapping[str, Any] = field(default_factory=dict)  # `MASK`, where the editor knows it
    stamp: tuple[int, int] | None = None  # of a file in a bucket, where its writer knows it (`store.places`)


@dataclass(frozen=True, order=True)
class Concept:
    """One attribute to edit.

    Attributes:
        prompt: the edit prompt, e.g. "round glasses".
        direction: whether the edit adds the attribute, "add", or removes it, "remove".
        setting: under which options, where the editor has a choice of them (`Calibrates`): a text of the editor's own
            that calibration or a person chose; empty for the options that the editor was made with.
    """

    prompt: str
    direction: Direction = "add"
    setting: str = ""


@dataclass(frozen=True, order=True)
class EditRequest:
    """One edit of one image.

    Attributes:
        image: key of the image.
        concepts: edited jointly; none means the null edit: inverted and decoded without guidance.
        seed: of the noise of the inversion; the same request gives the same pixels.
    """

    image: str
    concepts: tuple[Concept, ...] = ()
    seed: int = 0


class Calibrates(Protocol):
    """An editor whose options can be found by trying, a prompt at a time (`stages.calibration`)."""

    def settings(self, region: str | None = None, group: str | None = None) -> Sequence[str]:
        """The settings that are worth trying, those that are likeliest to be right first.

        Each stands for options of one concept, the same text for the same options, and is what `Concept.setting` takes;
        "" is the options that the editor was made with. A short budget tries the first of them only. Where two kinds of
        attribute have settings of their own, each prompt gets one that is listed for its kind.

        Args:
            region: where in the picture the attribute shows, where the corpus says so.
            group: id of its group in the corpus.
        """
        ...

    def variants(self, setting: str) -> Sequence[str]:
        """The settings among these that push as hard at the same place, and start elsewhere or know other words.

        The likeliest first; may be left out.
        """
        ...

    def alike(self, setting: str) -> bool:
        """Whether edits under a setting and null edits differ by the prompt alone; may be left out where all do.

        One for which they do not is no row of a preview's grid.
        """
        ...

    def check_settings(self, requests: Sequence[EditRequest]) -> None:
        """Refuse edits under settings that are not `alike`, as `edit` does; may be left out where all are.

        Raises:
            EditorError: names the prompt, the option and the remedy.
        """
        ...


class TakesSourcePrompts(Protocol):
    """An editor whose edits leave alone what a description of their picture names (`stages.source_prompts`)."""

    @property
    def most_tokens(self) -> int:
        """How many tokens of a prompt the editor's model reads."""
        ...

    def tokens(self, prompt: str) -> int:
        """How many tokens a prompt takes."""
        ...

    def with_source_prompts(self, vocabulary: Mapping[str, VocabularyGroup]) -> Editor:
        """The editor which describes pictures in these words; one that describes none for no words."""
        ...


class MadeBefore(Protocol):
    """An editor whose edits were made before: what is missing cannot be made (`EditorPart.makes_edits`)."""

    source: Path  # where they are, for messages

    def missing(
        self, names: Iterable[str], combinations: Iterable[frozenset[Concept]]
    ) -> list[tuple[str, frozenset[Concept]]]:
        """The edits of these images, by name, towards these concepts that are not there."""
        ...


class Editor(Protocol):
    """Edits images, as LEDITS++ does (Brack et al., CVPR 2024, arXiv 2311.16711) or in any other way.

    Attributes:
        fingerprint: hash of everything that changes a pixel of the result: two editors of one fingerprint share edits.
    """

    @property
    def fingerprint(self) -> str:
        """Hash of weights, scheduler, options, dtype, device kind and library versions; cheap to ask for."""
        ...

    def edit(
        self, images: Mapping[str, Image.Image], requests: Sequence[EditRequest]
    ) -> Iterator[list[tuple[EditRequest, Image.Image]]]:
        """Make the edits, yielding them a batch at a time so that each batch can be kept at once.

        Args:
            images: image key -> RGB picture; holds every image that a request names.
            requests: the edits; each comes back exactly once, in an order the editor chooses.

        Yields:
            Lists of (request, edited RGB picture of the editor's own size, with `MASK` where the editor knows it).

        Raises:
            EditorError: the model cannot be loaded or cannot make an edit.
        """
        ...
