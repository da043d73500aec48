"""A source of sample images: a Hugging Face dataset in a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from diffex_dagster.errors import StudyError
from diffex_dagster.images.files import why_no_sample
from diffex_dagster.images.sources.columns import SourceWithColumns, named_in
from diffex_dagster.images.sources.parquet import pictures_in
from diffex_dagster.images.sources.parts import Entry, Found, Where, sorted_pictures
from diffex_dagster.images.tables import read_rows

_SPLITS = ("train", "validation", "valid", "val", "test", "data")


class DatasetSource(SourceWithColumns):
    """A dataset in one of the layouts that `datasets` reads and writes."""

    source: ClassVar[str] = "dataset"
    dataset: Path | None = Field(
        None, description="a Hugging Face dataset in a folder: pictures in class folders, a metadata file, or Parquet"
    )

    def find(self, where: Where) -> Found:
        """The pictures in its Parquet files; without any, those of its metadata files; without these, all of them."""
        assert self.dataset is not None
        folder = where.path(self.dataset)
        if not folder.is_dir():
            raise StudyError(f"{folder}: images.dataset: there is no such folder; download the dataset there")
        found = Found()
        visible = [path for path in sorted(folder.rglob("*")) if why_no_sample(path, folder) != "hidden"]
        metadata = [path for path in visible if path.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet")]
        shards = [path for path in visible if path.suffix == ".parquet" and path not in metadata]
        if shards:
            found.entries = [
                entry for shard in shards for entry in pictures_in(found, shard, shard.relative_to(folder), self)
            ]
            if not found.entries:
                raise StudyError(
                    f"{folder}: images.dataset: no row of its Parquet files holds a picture; download it again"
                )
            return found
        found.entries = [entry for file in metadata for entry in _of_metadata(found, file, folder, self)]
        if found.entries:
            named = {entry.content for entry in found.entries}
            for path in visible:
                if why_no_sample(path, folder) is None and path not in named:
                    found.leave_out("in no metadata file", path.relative_to(folder).as_posix())
            return found
        paths = sorted_pictures(found, folder.rglob("*"), folder)
        if not paths:
            arrow = any(path.suffix == ".arrow" for path in visible)
            raise StudyError(
                f"{folder}: images.dataset: there is no picture and no Parquet file in it{found.instead}; "
                + ("it is in Arrow format: write it with to_parquet(), and name that folder" if arrow else
                   "name the folder of a dataset in Parquet or imagefolder layout")
            )  # fmt: skip
        found.entries = [
            Entry(path.relative_to(folder).as_posix(), path, _class_folder(path, folder)) for path in paths
        ]
        return found


def _class_folder(path: Path, root: Path) -> str | None:
    """The folder that a picture is in, where that is a class and no split."""
    parent = path.parent
    return None if parent == root or parent.name in _SPLITS else parent.name


def _of_metadata(found: Found, file: Path, folder: Path, of: DatasetSource) -> list[Entry]:
    rows = read_rows(file, "images.dataset")
    entries = named_in(found, rows, file, of, file.parent, "images.dataset")
    within = file.parent.relative_to(folder)
    return [
        replace(
            entry,
            name=(within / entry.name).as_posix(),
            label=entry.label if entry.label is not None or not isinstance(entry.content, Path)
            else _class_folder(entry.content, folder),
        )
        for entry in entries
    ]  # fmt: skip
