"""Pictures as content-addressed PNG files: written whole or not at all, and never twice."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

from PIL import Image

from diffex_dagster.errors import StoreError
from diffex_dagster.writing import write_atomically


class PictureFiles:
    """Pictures under `<folder>/pictures`, named by the hash of their content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, picture: Image.Image) -> str:
        """Keep a picture losslessly; returns its path relative to the folder."""
        buffer = io.BytesIO()
        picture.convert("RGB").save(buffer, "PNG")
        content = buffer.getvalue()
        name = hashlib.sha256(content).hexdigest()[:32]
        relative = f"pictures/{name[:2]}/{name}.png"
        if not (self.folder / relative).exists():
            write_atomically(self.folder / relative, content)
        return relative

    def get(self, relative: str) -> Image.Image:
        """Read a picture back; raises StoreError naming the file when it is gone."""
        path = self.folder / relative
        try:
            with Image.open(path) as picture:
                return picture.convert("RGB")
        except OSError as error:
            raise StoreError(
                f"{path}: a picture that the database names cannot be read ({error}); restore it from a backup or run "
                "again with --fresh"
            ) from error
