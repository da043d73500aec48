"""No judge."""

from __future__ import annotations

from typing import ClassVar, Literal

from diffex_dagster.editing.protocol import Editor
from diffex_dagster.judging.parts import JudgePart, Where


class NoJudgePart(JudgePart):
    """Do not judge edits, except by how far they change pixels."""

    judges: ClassVar[bool] = False
    own_model: ClassVar[bool] = False

    kind: Literal["none"] = "none"

    def build(self, where: Where, editor: Editor) -> None:
        """Nobody."""
