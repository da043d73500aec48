"""What every kind of judge has in a study file; see `judging.kinds`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from diffex_dagster.corpus.vlm.parts import ServerOptions
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.judging.protocol import Judge
from diffex_dagster.utils import config


@dataclass(frozen=True)
class Where(config.Where):
    """Where a judge is in a study file, and what it works with.

    Attributes:
        domain: what the images show.
        editor_name: the editor in use, for messages.
        device: where this deployment lets models of the editor work; None where it says nothing.
        vlm: the server of the study's vision-language model, where this deployment has it; None where the study has
            none that can be asked.
    """

    field: str = "judge"
    domain: str = ""
    editor_name: str = ""
    device: str | None = None
    vlm: ServerOptions | None = None


class JudgePart(config.KindPart):
    """A kind of judge, which says whether an edit shows its attribute.

    A kind is a subclass beside its adapter, with `kind` and `build`, and one line in `judging.kinds`.
    """

    judges: ClassVar[bool] = True  # False: edits are not judged, whatever the editor is
    own_model: ClassVar[bool] = True
    """Whether it is a source beside the editor: of a fingerprint that stages note, and looked for before a run."""

    def build(self, where: Where, editor: Editor) -> Judge | None:
        """The judge; None where this editor's edits have none. Nothing is loaded before it is asked.

        Raises:
            DiffExError: it cannot be made.
        """
        raise NotImplementedError

    def absent(self, where: Where) -> str:
        """Why `build` gives no judge: a clause for "not judged: ..."."""
        return f"the study says `judge: {{kind: {self.kind}}}`"

    def check(self, where: Where, to_be_loaded: bool = True) -> str:
        """Look for what it needs, without loading a model; what has been found, in words.

        Args:
            to_be_loaded: whether a run will ask it; else what it would download is not missed.

        Raises:
            StudyError: something is missing; the message begins with the field.
        """
        return "nothing is needed"

    def works_on(self) -> str | None:
        """The device that the study names for it; None where it has none of its own."""
        return None
