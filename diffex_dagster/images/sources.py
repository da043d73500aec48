"""Where sample images come from: a folder, a pattern, a list, a table, or a Hugging Face dataset in a folder.

What every source shares: which files count as pictures (`why_no_sample`), how a written path is found (`located`), that
no two entries have one name, and that what is left out is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from diffex_dagster.errors import StudyError, in_words
from diffex_dagster.images.files import SUFFIXES, why_no_sample
from diffex_dagster.images.tables import read_rows
from diffex_dagster.study import Images, Study
from diffex_dagster.utils.paths import listed, located
from diffex_dagster.utils.text import read_text

_PATH_COLUMNS = ("path", "file_name", "filename", "file", "image")
_PICTURE_COLUMNS = ("image", "img", "picture", "photo", "pixel_values")
_SPLITS = ("train", "validation", "valid", "val", "test", "data")


@dataclass(frozen=True)
class Entry:
    """An image that a study names: how it is called, where its bytes are, and its label where one is known.

    `origin` is what tells two entries of one name apart: a row, or the folder that a path starts from. `columns` is
    what a table says of it in the columns that a study names (`effects.subgroups`).
    """

    name: str
    content: Path | bytes
    label: str | None = None
    origin: str = ""
    columns: Mapping[str, str | None] = field(default_factory=dict)


@dataclass
class Found:
    """The entries of a source in order, each under a name of its own, and what was left out, by reason."""

    entries: list[Entry] = field(default_factory=list)
    left_out: dict[str, list[str]] = field(default_factory=dict)  # reason -> names
    notes: list[str] = field(default_factory=list)

    def leave_out(self, reason: str, name: str) -> None:
        """Count a file or row that is no sample picture."""
        self.left_out.setdefault(reason, []).append(name)


def find_images(study: Study) -> Found:
    """Every image that the study's `images` names, in name order (lists and tables in their own), none opened yet.

    Raises:
        StudyError: what the field names is missing or holds no image; the message names the field and the remedy.
    """
    images = study.images
    finders: dict[str, Callable[[Study, Images], Found]] = {
        "folder": _folder, "glob": _glob, "files": _files, "table": _table, "dataset": _dataset,
    }  # fmt: skip
    found = finders[images.source](study, images)
    found.entries = [_with_columns(entry, study) for entry in found.entries]
    if images.labels:
        known = sorted({entry.label for entry in found.entries if entry.label is not None})
        missing = [label for label in images.labels if label not in known]
        if missing:
            raise StudyError(
                f"{study.file}: images.labels: no image has the label {missing[0]!r}; "
                + (f"the labels are {', '.join(known[:20])}" if known else "only tables and datasets have labels")
            )
        found.entries = [entry for entry in found.entries if entry.label in images.labels]
    found.entries = _named_apart(found)
    return found


def _with_columns(entry: Entry, study: Study) -> Entry:
    """An entry with the columns that the study names, and no others.

    Raises:
        StudyError: there is no such column.
    """
    found = {}
    for wanted in study.effects.subgroups:
        if (column := _column(list(entry.columns), wanted, ())) is not None:
            found[wanted] = entry.columns[column]
        elif wanted == "label":
            found[wanted] = entry.label
        else:
            raise StudyError(
                f"{study.file}: effects.subgroups: there is no column {wanted!r}; the columns are "
                f"{', '.join(entry.columns) or 'none'}"
            )
    return replace(entry, columns=found)


def _named_apart(found: Found) -> list[Entry]:
    """The entries, no two of one name: what names a file again is left out and counted, what only shares a name with
    another picture gets its origin added.
    """
    kept: dict[str, Entry] = {}
    for entry in found.entries:
        known = kept.get(entry.name)
        if known is not None and isinstance(entry.content, Path) and entry.content == known.content:
            reason = "named again" if entry.label == known.label else "named again with another label"
            found.leave_out(reason, f"{entry.name} ({known.label}, {entry.label})" if entry.label else entry.name)
            continue
        name, turn = entry.name, 1
        while name in kept:
            name = f"{entry.name} ({entry.origin})" if turn == 1 and entry.origin else f"{entry.name} ({turn + 1})"
            turn += 1
        kept[name] = replace(entry, name=name)
    return list(kept.values())


def _sorted_pictures(found: Found, paths: Iterable[Path], root: Path) -> list[Path]:
    """The sample pictures among what a folder holds, in name order; the rest is counted."""
    pictures = []
    for path in sorted(paths):
        if path.is_dir():
            continue
        reason = why_no_sample(path, root)
        if reason is None:
            pictures.append(path)
        else:
            found.leave_out(reason, path.relative_to(root).as_posix())
    return pictures


def _folder(study: Study, images: Images) -> Found:
    folder = study.path(images.folder or Path("images"))
    if not folder.is_dir():
        raise StudyError(
            f"{folder}: images.folder: there is no such folder; put the sample images there or name another"
        )
    found = Found()
    found.entries = [Entry(path.name, path) for path in _sorted_pictures(found, folder.iterdir(), folder)]
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir() and why_no_sample(path, folder) != "hidden")
    if not found.entries:
        deeper = f" (it has folders: {', '.join(inner[:3])}; use glob or dataset)" if inner else ""
        raise StudyError(
            f"{folder}: images.folder: there is no picture in it{deeper}{_instead(found)}; put files ending in "
            f"{', '.join(sorted(SUFFIXES))} there"
        )
    if inner:
        found.notes.append(f"{len(inner)} folders in it are not looked into ({_few(inner)}); images.glob would")
    return found


def _instead(found: Found) -> str:
    counts = ", ".join(f"{len(names)} {reason}" for reason, names in found.left_out.items())
    return f", only {counts}" if counts else ""


def _glob(study: Study, images: Images) -> Found:
    pattern = located(str(images.glob), Path("/"), "images.glob") if str(images.glob)[:1] == "~" else images.glob
    pattern = Path(str(pattern).replace("\\", "/"))
    root = Path(pattern.anchor) if pattern.is_absolute() else study.folder
    relative = str(pattern.relative_to(pattern.anchor)) if pattern.is_absolute() else str(pattern)
    found = Found()
    fixed = _fixed_part(root, relative)
    try:
        paths = _sorted_pictures(found, root.glob(relative), fixed)
    except (ValueError, NotImplementedError, OSError, IndexError) as error:
        raise StudyError(
            f"{study.file}: images.glob: {images.glob!r} is no pattern ({in_words(error)}); write one such as "
            '"photos/**/*.jpg"'
        ) from error
    if not paths:
        raise StudyError(
            f"{study.file}: images.glob: {images.glob!r} matches no picture under {root}{_instead(found)}; correct the "
            'pattern (e.g. "photos/**/*.jpg")'
        )
    found.entries = [Entry(path.relative_to(root).as_posix(), path) for path in paths]
    return found


def _fixed_part(root: Path, pattern: str) -> Path:
    """The folder that a pattern names itself: what is hidden below it is left out, the folder itself was asked for."""
    for part in Path(pattern).parts[:-1]:
        if any(sign in part for sign in "*?["):
            break
        root = root / part
    return root


def _files(study: Study, images: Images) -> Found:
    assert images.files is not None
    file = study.path(images.files)
    try:
        lines = [line.strip() for line in read_text(file).splitlines()]
    except OSError as error:
        raise StudyError(
            f"{file}: images.files: it cannot be read ({in_words(error)}); write one path a line"
        ) from error
    names = [line for line in lines if line and not line.startswith("#")]
    if not names:
        raise StudyError(f"{file}: images.files: it names no picture; write one path a line, relative to the file")
    return Found([Entry(name, _located_picture(name, file.parent, "images.files")) for name in names])


def _table(study: Study, images: Images) -> Found:
    assert images.table is not None
    file = study.path(images.table)
    found = Found()
    found.entries = _named_in(found, read_rows(file, "images.table"), file, images, file.parent, "images.table")
    if not found.entries:
        raise StudyError(f"{file}: images.table: no row names a picture; fill the column of paths")
    return found


def _dataset(study: Study, images: Images) -> Found:
    """The two layouts that `datasets` reads and writes: files in class folders (imagefolder), or Parquet shards."""
    assert images.dataset is not None
    folder = study.path(images.dataset)
    if not folder.is_dir():
        raise StudyError(f"{folder}: images.dataset: there is no such folder; download the dataset there")
    found = Found()
    visible = [path for path in sorted(folder.rglob("*")) if why_no_sample(path, folder) != "hidden"]
    metadata = [path for path in visible if path.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet")]
    shards = [path for path in visible if path.suffix == ".parquet" and path not in metadata]
    if shards:
        found.entries = [entry for shard in shards for entry in _shard(found, shard, shard.relative_to(folder), images)]
        if not found.entries:
            raise StudyError(
                f"{folder}: images.dataset: no row of its Parquet files holds a picture; download it again"
            )
        return found
    found.entries = [entry for file in metadata for entry in _described(found, file, folder, images)]
    if found.entries:
        named = {entry.content for entry in found.entries}
        for path in visible:
            if why_no_sample(path, folder) is None and path not in named:
                found.leave_out("in no metadata file", path.relative_to(folder).as_posix())
        return found
    paths = _sorted_pictures(found, folder.rglob("*"), folder)
    if not paths:
        arrow = any(path.suffix == ".arrow" for path in visible)
        raise StudyError(
            f"{folder}: images.dataset: there is no picture and no Parquet file in it{_instead(found)}; "
            + ("it is in Arrow format: write it with to_parquet(), and name that folder" if arrow else
               "name the folder of a dataset in Parquet or imagefolder layout")
        )  # fmt: skip
    found.entries = [Entry(path.relative_to(folder).as_posix(), path, _class_folder(path, folder)) for path in paths]
    return found


def _class_folder(path: Path, root: Path) -> str | None:
    """The folder that a picture is in, where that is a class and no split."""
    parent = path.parent
    return None if parent == root or parent.name in _SPLITS else parent.name


def _described(found: Found, file: Path, folder: Path, images: Images) -> list[Entry]:
    rows = read_rows(file, "images.dataset")
    entries = _named_in(found, rows, file, images, file.parent, "images.dataset")
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


def _named_in(
    found: Found, rows: list[Mapping[str, Any]], file: Path, images: Images, folder: Path, where: str
) -> list[Entry]:
    if not rows:
        raise StudyError(f"{file}: {where}: it has no rows; add one for each image")
    columns = list(rows[0])
    column = _column(columns, images.path_column, _PATH_COLUMNS)
    if column is None:
        asked = images.path_column
        wrong = f"there is no column {asked!r}" if asked else f"no column is called {', '.join(_PATH_COLUMNS)}"
        raise StudyError(f"{file}: images.path_column: {wrong}; the columns are {', '.join(columns)}")
    label = _label_column(columns, images, file)
    entries = []
    for number, row in enumerate(rows, 1):
        name = _text(row[column])
        if not name:
            found.leave_out("rows without a path", f"row {number}")
            continue
        content = _located_picture(name, folder, where)
        about = {name: _text(value) for name, value in row.items()}
        entries.append(Entry(name, content, _text(row[label]) if label else None, f"row {number}", about))
    return entries


def _located_picture(name: str, folder: Path, where: str) -> Path:
    """The file that a list or table names; where it leaves the ending off (an id), the one picture of that stem."""
    path = listed(name, folder, where)
    if path.suffix.lower() in SUFFIXES or path.exists() or not path.parent.is_dir():
        return path
    same = [path.with_name(f"{path.name}{suffix}") for suffix in sorted(SUFFIXES)]
    there = [each for each in same if each.is_file()]
    return there[0] if len(there) == 1 else path


def _shard(found: Found, file: Path, name: Path, images: Images) -> list[Entry]:
    rows = read_rows(file, "images.dataset")
    columns = list(rows[0]) if rows else []
    pictures = [column for column in columns if _holds_pictures(rows, column)]
    if rows and not pictures:
        raise StudyError(
            f"{file}: images.dataset: no column holds encoded pictures; the columns are {', '.join(columns)}"
        )
    column = _column(pictures, images.path_column, _PICTURE_COLUMNS)
    if rows and column is None and images.path_column:
        raise StudyError(
            f"{file}: images.path_column: no column {images.path_column!r} holds pictures; these do: "
            f"{', '.join(pictures)}"
        )
    column = column or (pictures[0] if pictures else None)
    if len(pictures) > 1:
        others = ", ".join(each for each in pictures if each != column)
        note = f"the pictures are those of the column {column!r} (images.path_column names another: {others})"
        found.notes += [note] if note not in found.notes else []
    label = _label_column(columns, images, file)
    names = _class_names(file).get(label or "", [])
    entries = []
    for i, row in enumerate(rows):
        content, where = _encoded(row[column]) if column else (None, None)
        if not content:
            found.leave_out("rows without a picture", f"{name.as_posix()}, row {i + 1}")
            continue
        value = row[label] if label else None
        if names and isinstance(value, int) and 0 <= value < len(names):
            value = names[value]
        origin = f"{name.as_posix()}, row {i + 1}"
        about = {each: _text(row[each]) for each in columns if each not in pictures}
        entries.append(Entry(f"{name.stem}/{where or f'{i:06d}'}", content, _text(value), origin, about))
    return entries


def _holds_pictures(rows: Sequence[Mapping[str, Any]], column: str) -> bool:
    values = (row[column] for row in rows if row[column] is not None)
    return _encoded(next(values, None))[0] is not None


def _encoded(value: Any) -> tuple[bytes | None, str | None]:
    """The bytes and the path of a cell with a picture: `{bytes, path}` as `datasets` writes it, or the bytes alone."""
    if isinstance(value, dict) and "bytes" in value:
        return (bytes(value["bytes"]) if value["bytes"] else None), value.get("path")
    return (bytes(value), None) if isinstance(value, bytes | bytearray) and value else (None, None)


def _class_names(file: Path) -> dict[str, list[str]]:
    """The class names that `datasets` keeps in a Parquet file's metadata, by column."""
    import duckdb

    try:
        with duckdb.connect() as connection:
            rows = connection.execute("SELECT key, value FROM parquet_kv_metadata(?)", [str(file)]).fetchall()
        kept = {bytes(key).decode("utf-8", "replace"): value for key, value in rows}
        features = json.loads(bytes(kept["huggingface"]).decode("utf-8"))["info"]["features"]
        return {
            column: [str(name) for name in about["names"]]
            for column, about in features.items()
            if isinstance(about, dict) and isinstance(about.get("names"), list)
        }
    except (duckdb.Error, KeyError, TypeError, ValueError, AttributeError):
        return {}


def _column(columns: Sequence[str], asked: str | None, usual: Sequence[str]) -> str | None:
    """The column that is asked for, or the first of the usual ones, without regard to case."""
    for wanted in (asked,) if asked else usual:
        exact = [column for column in columns if column == wanted]
        alike = [column for column in columns if column.strip().lower() == wanted.lower()]
        if exact or alike:
            return (exact or alike)[0]
    return None


def _label_column(columns: Iterable[str], images: Images, file: Path) -> str | None:
    columns = list(columns)
    column = _column(columns, images.label_column, ("label",))
    if images.label_column and column is None:
        raise StudyError(
            f"{file}: images.label_column: there is no column {images.label_column!r}; the columns are "
            f"{', '.join(columns)}"
        )
    return column


def _text(value: Any) -> str | None:
    return None if value is None else str(value).strip()


def _few(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def left_out_in_words(left_out: Mapping[str, Sequence[str]]) -> list[str]:
    """What a source left out, a phrase a reason: "6 hidden (._a.jpg, ._b.jpg, …)", "1 other file (.json 1)"."""
    others = Counter({reason: len(names) for reason, names in left_out.items() if _is_ending(reason)})
    said = [f"{len(names)} {reason} ({_few(names)})" for reason, names in left_out.items() if not _is_ending(reason)]
    if others:
        kinds = _few([f"{ending} {count}" for ending, count in others.most_common()], 5)
        said.append(f"{others.total()} other file{'s' if others.total() > 1 else ''} ({kinds})")
    return said


def _is_ending(reason: str) -> bool:
    return reason.startswith(".") or reason == "no ending"
