"""Where sample images come from: a folder, a pattern, a list, a table, or a Hugging Face dataset in a folder."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from diffex_dagster.errors import StudyError, first_line
from diffex_dagster.study import Images, Study

SUFFIXES = {
    ".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".apng", ".ppm",
}  # fmt: skip
_PATH_COLUMNS = ("path", "file_name", "filename", "file", "image")
_SPLITS = ("train", "validation", "test", "data")


@dataclass(frozen=True)
class Entry:
    """An image that a study names: how it is called, where its bytes are, and its label where one is known."""

    name: str
    content: Path | bytes
    label: str | None = None

    def open(self) -> BinaryIO:
        """The file's bytes."""
        return self.content.open("rb") if isinstance(self.content, Path) else io.BytesIO(self.content)


def find_images(study: Study) -> list[Entry]:
    """Every image that the study's `images` names, in name order (lists and tables in their own), none opened yet.

    Raises:
        StudyError: what the field names is missing or holds no image; the message names the field and the remedy.
    """
    images = study.images
    finders: dict[str, Callable[[Study, Images], list[Entry]]] = {
        "folder": _folder, "glob": _glob, "files": _files, "table": _table, "dataset": _dataset,
    }  # fmt: skip
    found = finders[images.source](study, images)
    if images.labels:
        known = sorted({entry.label for entry in found if entry.label is not None})
        missing = [label for label in images.labels if label not in known]
        if missing:
            raise StudyError(
                f"{study.file}: images.labels: no image has the label {missing[0]!r}; "
                + (f"the labels are {', '.join(known[:20])}" if known else "only tables and datasets have labels")
            )
        found = [entry for entry in found if entry.label in images.labels]
    return found


def _folder(study: Study, images: Images) -> list[Entry]:
    folder = study.path(images.folder or Path("images"))
    if not folder.is_dir():
        raise StudyError(
            f"{folder}: images.folder: there is no such folder; put the sample images there or name another"
        )
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise StudyError(
            f"{folder}: images.folder: there is no picture in it; put files ending in "
            f"{', '.join(sorted(SUFFIXES))} there"
        )
    return [Entry(path.name, path) for path in paths]


def _glob(study: Study, images: Images) -> list[Entry]:
    pattern = Path(str(images.glob)).expanduser()
    root = Path(pattern.anchor) if pattern.is_absolute() else study.folder
    relative = str(pattern.relative_to(pattern.anchor)) if pattern.is_absolute() else str(pattern)
    paths = sorted(path for path in root.glob(relative) if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not paths:
        raise StudyError(
            f"{study.file}: images.glob: {images.glob!r} matches no picture under {root}; correct the pattern "
            '(e.g. "photos/**/*.jpg")'
        )
    return [Entry(path.relative_to(root).as_posix(), path) for path in paths]


def _files(study: Study, images: Images) -> list[Entry]:
    assert images.files is not None
    file = study.path(images.files)
    try:
        lines = [line.strip() for line in file.read_text("utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{file}: images.files: it cannot be read ({error}); write one path a line") from error
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise StudyError(f"{file}: images.files: it names no picture; write one path a line, relative to the file")
    return [Entry(name, file.parent / Path(name).expanduser()) for name in names]


def _table(study: Study, images: Images) -> list[Entry]:
    assert images.table is not None
    file = study.path(images.table)
    rows = read_rows(file, "images.table")
    return _named_in(rows, file, images, file.parent, "images.table")


def _dataset(study: Study, images: Images) -> list[Entry]:
    """The two layouts that `datasets` reads and writes: files in class folders (imagefolder), or Parquet shards."""
    assert images.dataset is not None
    folder = study.path(images.dataset)
    if not folder.is_dir():
        raise StudyError(f"{folder}: images.dataset: there is no such folder; download the dataset there")
    shards = sorted(folder.rglob("*.parquet"))
    if shards:
        return [entry for shard in shards for entry in _shard(shard, shard.relative_to(folder), images)]
    described = [entry for file in _metadata(folder) for entry in _described(file, folder, images)]
    if described:
        return described
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix.lower() in SUFFIXES)
    if not paths:
        raise StudyError(
            f"{folder}: images.dataset: there is no picture and no Parquet file in it; name the folder of a dataset "
            "in Parquet or imagefolder layout"
        )
    return [Entry(path.relative_to(folder).as_posix(), path, _class_folder(path, folder)) for path in paths]


def _class_folder(path: Path, root: Path) -> str | None:
    """The folder that a picture is in, where that is a class and no split."""
    parent = path.parent
    return None if parent == root or parent.name in _SPLITS else parent.name


def _metadata(folder: Path) -> list[Path]:
    return sorted(path for name in ("metadata.csv", "metadata.jsonl") for path in folder.rglob(name))


def _described(file: Path, folder: Path, images: Images) -> list[Entry]:
    entries = _named_in(read_rows(file, "images.dataset"), file, images, file.parent, "images.dataset")
    within = file.parent.relative_to(folder)
    return [Entry((within / entry.name).as_posix(), entry.content, entry.label) for entry in entries]


def _named_in(rows: list[Mapping[str, Any]], file: Path, images: Images, folder: Path, field: str) -> list[Entry]:
    if not rows:
        raise StudyError(f"{file}: {field}: it has no rows; add one for each image")
    columns = list(rows[0])
    asked = images.path_column
    column = asked or next((name for name in _PATH_COLUMNS if name in columns), None)
    if column is None or column not in columns:
        wrong = f"there is no column {asked!r}" if asked else f"no column is called {', '.join(_PATH_COLUMNS)}"
        raise StudyError(f"{file}: images.path_column: {wrong}; the columns are {', '.join(columns)}")
    label = _label_column(columns, images, file)
    return [
        Entry(str(row[column]), folder / Path(str(row[column])).expanduser(), _text(row[label]) if label else None)
        for row in rows
        if row[column] is not None
    ]


def _shard(file: Path, name: Path, images: Images) -> list[Entry]:
    rows = read_rows(file, "images.dataset")
    columns = list(rows[0]) if rows else []
    column = next((c for c in columns if isinstance(rows[0][c], dict) and "bytes" in rows[0][c]), None)
    if rows and column is None:
        raise StudyError(
            f"{file}: images.dataset: no column holds encoded pictures; the columns are {', '.join(columns)}"
        )
    label = _label_column(columns, images, file)
    entries = []
    for i, row in enumerate(rows):
        picture = row[column] if column else None
        if picture and picture.get("bytes"):
            where = picture.get("path") or f"{i:06d}"
            entries.append(Entry(f"{name.stem}/{where}", bytes(picture["bytes"]), _text(row[label]) if label else None))
    return entries


def _label_column(columns: Iterable[str], images: Images, file: Path) -> str | None:
    asked, columns = images.label_column, list(columns)
    if asked and asked not in columns:
        raise StudyError(
            f"{file}: images.label_column: there is no column {asked!r}; the columns are {', '.join(columns)}"
        )
    return asked or ("label" if "label" in columns else None)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def read_rows(file: Path, field: str) -> list[Mapping[str, Any]]:
    """The rows of a CSV, TSV, JSON-lines or Parquet file, read by DuckDB."""
    import duckdb

    readers = {
        ".csv": "read_csv(?, all_varchar=true)",
        ".tsv": "read_csv(?, all_varchar=true, delim='\t')",
        ".jsonl": "read_json_auto(?)",
        ".parquet": "read_parquet(?)",
    }
    if file.suffix.lower() not in readers:
        raise StudyError(f"{file}: {field}: tables end in {', '.join(readers)}; convert it")
    if not file.is_file():
        raise StudyError(f"{file}: {field}: there is no such file; correct the path, which starts at the study file")
    try:
        with duckdb.connect() as connection:
            cursor = connection.execute(f"SELECT * FROM {readers[file.suffix.lower()]}", [str(file)])  # noqa: S608
            names = [column[0] for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    except duckdb.Error as error:
        raise StudyError(f"{file}: {field}: it cannot be read ({first_line(error)}); mend the file") from error
