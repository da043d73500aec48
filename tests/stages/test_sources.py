"""What people's folders, lists, tables and datasets hold besides pictures, and what becomes of equal names."""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from diffex_dagster.errors import StudyError
from diffex_dagster.images.files import open_picture, read_picture, why_no_sample, why_unreadable
from diffex_dagster.images.finding import _named_apart
from diffex_dagster.images.sources.parts import Entry, Found
from diffex_dagster.stages.sample_images import Samples, read_samples
from diffex_dagster.study import load_study
from diffex_dagster.utils.paths import listed, located
from tests.support.toys import picture, write_study


def read(where: Path, **images: Any) -> Samples:
    return read_samples(load_study(write_study(where, image_count=2, images={"size": 16, **images})))


def png(shade: int, blue: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (shade, shade, blue)).save(file, "PNG")
    return file.getvalue()


def parquet(file: Path, select: str, rows: list[tuple[Any, ...]], columns: str, options: str = "") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({columns})")
        connection.executemany(f"INSERT INTO t VALUES ({', '.join('?' * len(rows[0]))})", rows)
        connection.execute(f"COPY (SELECT {select} FROM t) TO '{file}' (FORMAT parquet{options})")


def test_hidden_files_of_a_mac_and_system_files_are_no_pictures_in_any_source(tmp_path: Path) -> None:
    write_study(tmp_path, 2)
    places = [tmp_path / "pics", tmp_path / "ds" / "train" / "warm"]
    for place in (*places, tmp_path / "ds" / "__MACOSX" / "train" / "warm", tmp_path / "pics" / ".thumbnails"):
        place.mkdir(parents=True, exist_ok=True)
        for i in range(3):
            if place in places:
                (place / f"IMG_{i}.jpg").write_bytes(png(60 * i))
            (place / f"._IMG_{i}.jpg").write_bytes(b"\x00\x05\x16\x07" + bytes(200))
    (tmp_path / "pics" / ".thumbnails" / "IMG_9.jpg").write_bytes(png(9))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / "pics" / name).write_bytes(b"x")
    for source in ({"folder": "pics"}, {"glob": "pics/**/*"}, {"glob": "pics/*.jpg"}, {"dataset": "ds"}):
        found = read(tmp_path, **source)
        assert len(found.pictures) == 3 and not found.unreadable, source
        assert all("._" not in name for name in found.pictures)
    assert "4 hidden (.DS_Store, ._IMG_0.jpg, ._IMG_1.jpg, …), 2 other files (.db 1, .ini 1)" in (
        read(tmp_path, folder="pics").summary()
    )


def test_a_hidden_folder_that_the_study_names_itself_is_searched(tmp_path: Path) -> None:
    write_study(tmp_path, 2)
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.png").write_bytes(png(5))
    assert list(read(tmp_path, folder=".cache").pictures) == ["a.png"]
    assert list(read(tmp_path, glob=".cache/*.png").pictures) == [".cache/a.png"]


def test_only_regular_files_of_raster_formats_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "x.png").write_bytes(postscript)
    (tmp_path / "bin").mkdir()
    gs = tmp_path / "bin" / "gs"
    gs.write_text(f"#!/bin/sh\necho called >> {tmp_path}/called\n")
    gs.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    with pytest.raises(OSError) as raised:
        read_picture(tmp_path / "x.png", 16)
    assert why_unreadable(raised.value) == "not a picture of a known format"
    assert not (tmp_path / "called").exists()
    os.mkfifo(tmp_path / "pipe.png")
    assert why_no_sample(tmp_path / "pipe.png") == "no regular file"
    for file in (tmp_path / "pipe.png", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"no regular file|a folder"), open_picture(file):
            pass
    write_study(tmp_path, 2)
    (tmp_path / "list.txt").write_text("images/00.png\npipe.png\n/dev/zero\nimages\nhttps://example.org/a.png\n")
    found = read(tmp_path, files="list.txt", unreadable=0.9)
    assert dict(found.unreadable) == {
        "pipe.png": "it is no regular file", "/dev/zero": "it is no regular file", "images": "it is a folder",
        "https://example.org/a.png": "an address, not a file: download it",
    }  # fmt: skip


def exif_block(entries: list[tuple[int, int, int, bytes]], data: bytes = b"") -> bytes:
    out = b"II*\0" + struct.pack("<L", 8) + struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        out += struct.pack("<HHL", tag, kind, count) + value
    return b"Exif\0\0" + out + struct.pack("<L", 0) + data


TURNED = (0x112, 3, 1, struct.pack("<HH", 6, 0))
AT = struct.pack("<L", 8 + 2 + 12 * 2 + 4)
BROKEN_EXIF = {
    "rational by zero": ([TURNED, (0x11A, 5, 1, AT)], struct.pack("<LL", 72, 0), True),
    "negative in an unsigned tag": ([TURNED, (0x11A, 10, 1, AT)], struct.pack("<ll", -72, 1), True),
    "resolution that is no number": ([TURNED, (0x11A, 12, 1, AT)], struct.pack("<d", float("nan")), True),
    "block outside the file": ([TURNED, (0x8769, 4, 1, struct.pack("<L", 60000))], b"", True),
    "text outside the file": ([TURNED, (0x10F, 2, 50, struct.pack("<L", 60000))], b"", True),
    "unknown type": ([TURNED, (0x927C, 99, 1, bytes(4))], b"", True),
    "orientation as text": ([(0x112, 2, 2, b"6\0\0\0")], b"", None),
    "orientation of zero": ([(0x112, 3, 1, struct.pack("<HH", 0, 0))], b"", False),
    "orientation beyond eight": ([(0x112, 3, 1, struct.pack("<HH", 77, 0))], b"", False),
}


@pytest.mark.parametrize("kind", BROKEN_EXIF)
def test_a_broken_exif_block_costs_no_picture_and_its_orientation_counts_where_it_can_be_read(kind: str) -> None:
    entries, data, turned = BROKEN_EXIF[kind]
    wide = Image.new("RGB", (40, 40), (0, 0, 0))
    wide.paste((255, 255, 255), (0, 0, 20, 40))  # the left half is bright; turned by 90°, the upper one
    file = io.BytesIO()
    wide.save(file, "JPEG", quality=95)
    block = exif_block(entries, data)
    raw = file.getvalue()
    raw = raw[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + raw[2:]
    pixels = np.asarray(read_picture(raw, 16).convert("L"), dtype=float)
    if turned is not None:
        bright, dark = (pixels[:6], pixels[-6:]) if turned else (pixels[:, :6], pixels[:, -6:])
        assert bright.mean() > 240 and dark.mean() < 15


class Undecodable:
    """Stands for a decoder that raises whatever it likes."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *args: Any) -> Any:
        raise self.error


@pytest.mark.parametrize(
    "error", [struct.error("bad"), KeyError("k"), ZeroDivisionError("z"), RuntimeError("r"), IndexError("i"),
              AttributeError("a"), AssertionError(), RecursionError("deep"), StopIteration()]
)  # fmt: skip
def test_whatever_a_decoder_raises_costs_one_picture_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from diffex_dagster.stages import sample_images as stage

    def decode(content: Any, *args: Any) -> Image.Image:
        return Undecodable(error)() if Path(content).name == "01.png" else read_picture(content, *args)

    monkeypatch.setattr(stage, "read_picture", decode)
    found = read(tmp_path, unreadable=0.6)
    assert list(found.pictures) == ["00.png"]
    ((name, why),) = found.unreadable
    assert name == "01.png" and why and "\n" not in why


def test_heic_without_its_package_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffex_dagster.images import files as image_files

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    image_files._reads_heif.cache_clear()
    write_study(tmp_path, 2)
    for name in ("a.HEIC", "b.heif", "c.hif"):
        (tmp_path / "images" / name).write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    try:
        found = read(tmp_path, unreadable=0.9)
    finally:
        image_files._reads_heif.cache_clear()
    assert [name for name, _ in found.unreadable] == ["a.HEIC", "b.heif", "c.hif"]
    assert all("pip install 'diffex-dagster[heic]'" in why for _, why in found.unreadable)


def test_pictures_of_one_file_name_in_two_classes_are_all_there(tmp_path: Path) -> None:
    rows = [(png(20 * i, 90 * k), f"{i:04d}.png", k) for k in range(2) for i in range(4)]
    kept = json.dumps({"info": {"features": {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}}})
    parquet(
        tmp_path / "ds" / "data" / "train-00000-of-00001.parquet", "{'bytes': b, 'path': p} AS image, label", rows,
        "b BLOB, p VARCHAR, label BIGINT", f", KV_METADATA {{huggingface: '{kept}'}}",
    )  # fmt: skip
    found = read(tmp_path, dataset="ds")
    assert len(found.pictures) == 8
    assert sorted(found.labels.values(), key=str) == ["cat"] * 4 + ["dog"] * 4
    assert "train-00000-of-00001/0000.png" in found.pictures
    assert "train-00000-of-00001/0000.png (data/train-00000-of-00001.parquet, row 5)" in found.pictures
    assert len(read(tmp_path, dataset="ds", labels=["dog"]).pictures) == 4


def test_of_several_picture_columns_the_usual_one_is_taken_and_said(tmp_path: Path) -> None:
    rows = [(png(255, 0), png(10 * i, 200), f"{i}.png") for i in range(3)]
    parquet(
        tmp_path / "ds" / "train.parquet", "{'bytes': m, 'path': p} AS mask, {'bytes': b, 'path': p} AS image", rows,
        "m BLOB, b BLOB, p VARCHAR",
    )  # fmt: skip
    found = read(tmp_path, dataset="ds")
    assert {each.getpixel((8, 8))[2] for each in found.pictures.values()} == {200}
    assert "the pictures are those of the column 'image' (images.path_column names another: mask)" in found.summary()
    masks = read(tmp_path, dataset="ds", path_column="mask")
    assert {each.getpixel((8, 8))[2] for each in masks.pictures.values()} == {0}
    with pytest.raises(StudyError, match="no column 'depth' holds pictures; these do: mask, image"):
        read(tmp_path, dataset="ds", path_column="depth")


def test_rows_without_a_picture_are_counted_and_bare_bytes_are_pictures(tmp_path: Path) -> None:
    rows = [(None,), (png(30),), (None,), (png(60),)]
    parquet(tmp_path / "ds" / "x.parquet", "b AS img", rows, "b BLOB")
    found = read(tmp_path, dataset="ds")
    assert (
        len(found.pictures) == 2 and "2 rows without a picture (x.parquet, row 1, x.parquet, row 3)" in found.summary()
    )


def test_metadata_in_parquet_describes_the_files_beside_it(tmp_path: Path) -> None:
    rows = [(f"{i}.png", "warm" if i % 2 else "cold") for i in range(4)]
    parquet(tmp_path / "ds" / "train" / "metadata.parquet", "*", rows, "file_name VARCHAR, label VARCHAR")
    for i in range(5):
        (tmp_path / "ds" / "train" / f"{i}.png").write_bytes(png(40 * i))
    found = read(tmp_path, dataset="ds")
    assert found.labels["train/1.png"] == "warm" and len(found.pictures) == 4
    assert "1 in no metadata file (train/4.png)" in found.summary()


@pytest.mark.parametrize(
    ("table", "encoding", "labels"),
    [
        ("path,label\r\nphotos\\0.png,warm\r\nphotos\\1.png,cold\r\n", "utf-8", ["warm", "cold"]),
        ("Path;Label\r\nphotos/0.png;warm\r\nphotos/1.png;cold\r\n", "utf-8-sig", ["warm", "cold"]),
        ("path\tlabel\nphotos/0.png\twarm\nphotos/1.png\tcold\n", "utf-16", ["warm", "cold"]),
        ("path,label\nphotos/café.png,warm\nphotos/0.png,cold\n", "cp1252", ["warm", "cold"]),
        ("path,label\nphotos/0.png,warm\n,\n\n", "utf-8", ["warm"]),
        ("image,label\nphotos/0,warm\nphotos/1,cold\n", "utf-8", ["warm", "cold"]),
    ],
)
def test_tables_as_windows_and_excel_write_them(tmp_path: Path, table: str, encoding: str, labels: list[str]) -> None:
    (tmp_path / "photos").mkdir()
    for name, shade in (("0", 10), ("1", 90), ("café", 160)):
        (tmp_path / "photos" / f"{name}.png").write_bytes(png(shade))
    (tmp_path / "t.csv").write_bytes(table.encode(encoding))
    assert list(read(tmp_path, table="t.csv").labels.values()) == labels
    (tmp_path / "list.txt").write_bytes("photos\\0.png\r\nphotos/1.png\r\n".encode("utf-16"))
    assert len(read(tmp_path, files="list.txt").pictures) == 2


def test_a_picture_listed_twice_counts_once_and_a_second_label_is_said(tmp_path: Path) -> None:
    write_study(tmp_path, 2)
    (tmp_path / "t.csv").write_text("path,label\nimages/00.png,warm\nimages/00.png,cold\nimages/01.png,cold\n")
    found = read(tmp_path, table="t.csv")
    assert found.labels == {"images/00.png": "warm", "images/01.png": "cold"}
    assert "1 named again with another label (images/00.png (warm, cold))" in found.summary()
    picture(90).save(tmp_path / "images" / "copy.png")
    assert "1 equal to another (copy.png = 00.png)" in read(tmp_path).summary()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "a (1)", "a (2)", "b", "a (row 1)"]), st.integers(0, 3), st.integers(0, 9))
    )
)
def test_entries_keep_names_of_their_own_and_none_disappears_without_being_counted(
    rows: list[tuple[str, int, int]],
) -> None:
    entries = [Entry(name, Path(f"/x/{content}"), str(label), f"row {content}") for name, content, label in rows]
    entries += [Entry(name, bytes([content]), None, "row 1") for name, content, _ in rows]
    found = Found(list(entries))
    kept = _named_apart(found)
    assert len({entry.name for entry in kept}) == len(kept)
    assert len(kept) + sum(len(names) for names in found.left_out.values()) == len(entries)
    paths = {(entry.name, entry.content) for entry in entries if isinstance(entry.content, Path)}
    assert {content for _, content in paths} == {each.content for each in kept if isinstance(each.content, Path)}


def test_one_rule_for_written_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    (home / "pics").mkdir(parents=True)
    (home / "pics" / "a.png").write_bytes(png(3))
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("DATA", str(home))
    monkeypatch.delenv("NOWHERE", raising=False)
    study = tmp_path / "study"
    for written in ("~/pics", str(home / "pics"), "../home/pics", "..\\home\\pics"):
        assert located(written, study).resolve() == home / "pics", written
    # Variables are one rule, that of study files; what was replaced there is not replaced again.
    assert listed("${DATA}/pics", study) == listed("${NOWHERE:-~}/pics", study) == home / "pics"
    assert located("${DATA}", study) == study / "${DATA}"
    for written in ("$NOWHERE/x", "x/$NOWHERE", "~/$NOWHERE"):
        with pytest.raises(StudyError, match=r"images\.folder: there is no '.*'; .* is written \$\{NOWHERE\}"):
            located(written, study, "images.folder")
    with pytest.raises(StudyError, match=r"images\.table, row 1: .* variable NOWHERE is not set"):
        listed("${NOWHERE}/x", study, "images.table, row 1")
    assert located("a $5 price.png", study) == study / "a $5 price.png"
    (study / "$NOWHERE").mkdir(parents=True)
    assert located("$NOWHERE", study) == study / "$NOWHERE"
    assert located("~nobody_is_called_so/x", study) == study / "~nobody_is_called_so" / "x"
    (tmp_path / "t.csv").write_text("path\n~/pics/a.png\n")
    (tmp_path / "l.txt").write_text("${DATA}/pics/a.png\n")
    for source in ({"folder": "~/pics"}, {"glob": "~/pics/*.png"}, {"table": "t.csv"}, {"files": "l.txt"},
                   {"glob": "${DATA}/pics/*"}, {"dataset": "~/pics"}):  # fmt: skip
        assert len(read(tmp_path, **source).pictures) == 1, source
    study_file = write_study(tmp_path, 2, results="~/out")
    assert load_study(study_file).results_folder == home / "out"
