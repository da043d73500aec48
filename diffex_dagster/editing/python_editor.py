"""An editor of the user's own."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from diffex_dagster.editing.parts import EditorPart, Where
from diffex_dagster.editing.protocol import Editor
from diffex_dagster.errors import EditorError
from diffex_dagster.utils.config import Reference
from diffex_dagster.utils.imports import make
from diffex_dagster.utils.own_code import code_digest, own


class PythonEditorPart(EditorPart):
    """An editor of the user's own: `module:factory`, called with `folder` (of the study file) and `options`."""

    kind: Literal["python"] = "python"
    factory: Reference
    options: dict[str, Any] = Field(default_factory=dict)

    def build(self, where: Where) -> Editor:
        """What the factory makes.

        Raises:
            StudyError: its module cannot be imported, or it fails.
        """
        needs = ("edit", "fingerprint")
        editor: Editor = make(self.factory, where.folder, f"{where.field}.factory", needs, self.options)
        return own(editor, f"{where.field}.factory", EditorError, code_digest(self.factory, where.folder, self.options))

    def method(self) -> str:
        """That it is the study's own."""
        return (
            f"The study's own editor ({self.factory}) edits every sample image towards one attribute, and once more "
            "with no attribute: the null edit, which carries whatever it does to every picture."
        )

    def calibrates(self, asked: bool | None) -> bool:
        """Where the study says so: whether it has `settings` to try is known once it is made."""
        return bool(asked)
