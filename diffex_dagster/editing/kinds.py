"""The kinds of editors that a study file can name: each import below is one.

A new kind is one file, with what the study file says of it (an `EditorPart` with its own `kind`, `build` and `method`)
and the editor that this makes, and one line here. The modules are read with every study file: they load no model
library before an edit is made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diffex_dagster.editing.instruct import InstructEditorPart as InstructEditorPart
from diffex_dagster.editing.ledits import LeditsEditorPart as LeditsEditorPart
from diffex_dagster.editing.parts import EditorPart
from diffex_dagster.editing.precomputed import PrecomputedEditorPart as PrecomputedEditorPart
from diffex_dagster.editing.python_editor import PythonEditorPart as PythonEditorPart
from diffex_dagster.utils.config import kinds_in, one_of

KINDS = kinds_in(globals(), EditorPart)

if TYPE_CHECKING:
    AnyEditorPart = EditorPart
else:
    AnyEditorPart = one_of(KINDS)
"""What a study file says about an editor of any kind, validated without loading a model."""
