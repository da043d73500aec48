"""Reading sample images: where they are found, what is prepared how, and what is left out."""

from __future__ import annotations

import io
import json
import os
import weakref
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from PIL import Image

from diffex_dagster.corpus.tree import Corpus
from diffex_dagster.corpus.vlm.protocol import Proposal
from diffex_dagster.errors import ClassifierError, StudyError
from diffex_dagster.images.files import prepare, read_picture
from diffex_dagster.stages import sample_images as sample_images_module
from diffex_dagster.stages.context import StudyContext, at_work
from diffex_dagster.stages.corpus import propose
from diffex_dagster.stages.sample_images import read_samples, sample_images
from diffex_dagster.stages.setup import build_classifier
from diffex_dagster.store import Store
from diffex_dagster.store.files import PictureFiles
from diffex_dagster.study import Study, load_study
from tests.support.odd_images import BROKEN, write_odd_images
from tests.support.toys import picture, write_study


def study_of(where: Path, count: int = 6, /, **images: Any) -> Study:
    return load_study(write_study(where, image_count=count, images={"size": 16, **images}))


def names(study: Study) -> list[str]:
    return list(read_samples(study, lambda name: build_classifier(study, name)).pictures)


def test_pictures_become_upright_square_rgb() -> None:
    wide = Image.new("RGB", (40, 20), "red")
    wide.paste("blue", (0, 0, 5, 20))
    assert prepare(wide, 16).size == (16, 16)
    assert prepare(wide, 16).getpixel((0, 8)) == (255, 0, 0)  # the blue edge is cropped away
    assert prepare(wide, 16, "stretch").getpixel((0, 8)) == (0, 0, 255)
    padded = prepare(wide, 16, "pad", "#00ff00")
    assert padded.getpixel((8, 1)) == (0, 255, 0) and padded.getpixel((12, 8)) == (255, 0, 0)
    clear = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    assert prepare(clear, 16).getpixel((3, 3)) == (255, 255, 255)
    assert prepare(clear, 16, background="black").getpixel((3, 3)) == (0, 0, 0)
    upside_down = Image.new("RGB", (16, 16), "black")
    upside_down.paste("white", (0, 0, 16, 8))
    exif = upside_down.getexif()
    exif[0x0112] = 3  # turned by 180°
    file = io.BytesIO()
    upside_down.save(file, "JPEG", exif=exif)
    turned = np.asarray(read_picture(file, 16))
    assert turned[:4].mean() < 10 < 245 < turned[-4:].mean()


@pytest.mark.parametrize(
    ("array", "grey"),
    [
        (np.full((20, 20), 32768, dtype=np.uint16), 128),  # Pillow's own conversion would clip to white
        (np.full((20, 20), 100, dtype=np.int32), 100),
        (np.full((20, 20), 65535, dtype=np.int32), 255),
        (np.full((20, 20), 0.5, dtype=np.float32), 128),
    ],
)
def test_deep_grey_keeps_its_shade(array: np.ndarray, grey: int) -> None:
    assert prepare(Image.fromarray(array), 16).getpixel((5, 5)) == (grey,) * 3


def test_transparency_is_laid_on_a_background_strip_by_strip(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture of a hundred million transparent pixels is a small file."""
    random = np.random.default_rng(0)
    rgba = Image.fromarray(random.integers(0, 256, (17, 16, 4), dtype=np.uint8))
    palette = rgba.convert("RGB").quantize(8)
    palette.info["transparency"] = bytes(range(0, 256, 32))
    for shown in (rgba, palette, rgba.convert("LA"), rgba.convert("RGBa")):
        whole = shown.convert("RGBA")
        expected = Image.alpha_composite(Image.new("RGBA", whole.size, "red"), whole).convert("RGB")
        monkeypatch.setattr("diffex_dagster.images.files.STRIP", 3 * 16)
        made = prepare(shown, 16, "stretch", "red")
        assert np.array_equal(made, expected.resize((16, 16), Image.Resampling.LANCZOS)), shown.mode


def test_thirty_odd_files_are_read_and_the_broken_ones_listed(tmp_path: Path) -> None:
    write_odd_images(tmp_path / "odd")
    assert len(list((tmp_path / "odd").iterdir())) == 30
    samples = read_samples(study_of(tmp_path, folder="odd"))
    assert {name for name, _ in samples.unreadable} == set(BROKEN) and len(samples.pictures) == 27
    assert all(why and "\n" not in why for _, why in samples.unreadable)
    assert {each.size for each in samples.pictures.values()} == {(16, 16)}
    assert {each.mode for each in samples.pictures.values()} == {"RGB"}
    # What a file shows does not depend on how it was written: each of them is left half dark, right half bright.
    for name, each in samples.pictures.items():
        pixels = np.asarray(each.convert("L"), dtype=float)
        assert pixels[:, 2:6].mean() + 60 < pixels[:, 10:14].mean(), name


def test_what_follows_the_first_picture_of_a_file_is_said_to_be_left_out(tmp_path: Path) -> None:
    study = study_of(tmp_path, 2)
    first, second = picture(60), picture(200)
    folder = tmp_path / "images"
    first.save(folder / "pages.tiff", save_all=True, append_images=[second])
    first.save(folder / "moving.gif", save_all=True, append_images=[second])
    first.save(folder / "one.tiff")
    samples = read_samples(study)
    assert len(samples.pictures) == 5
    assert "2 with several frames or pages (moving.gif, pages.tiff): the first is used" in samples.summary()
    assert samples.pictures["pages.tiff"].getpixel((0, 0)) == first.getpixel((0, 0))


def test_a_larger_share_of_broken_files_is_one_sentence(tmp_path: Path) -> None:
    study = study_of(tmp_path, 6)
    (tmp_path / "images" / "bad.png").write_bytes(b"not a picture")
    (tmp_path / "images" / "cut.png").write_bytes((tmp_path / "images" / "00.png").read_bytes()[:60])
    with pytest.raises(
        StudyError, match=r"2 of 8 files cannot be read as pictures \(bad\.png: not a picture.*cut\.png"
    ):
        read_samples(study)
    assert len(read_samples(study_of(tmp_path, unreadable=0.25)).pictures) == 6
    for file in (tmp_path / "images").glob("0*"):
        file.unlink()
    with pytest.raises(StudyError, match="2 of 2"):
        read_samples(load_study(tmp_path / "study.yaml").model_copy())


def test_folder_glob_and_list(tmp_path: Path) -> None:
    study_of(tmp_path, 4)
    (tmp_path / "more" / "deep").mkdir(parents=True)
    picture(7).save(tmp_path / "more" / "deep" / "a.jpg")
    picture(8).save(tmp_path / "more" / "b.png")
    (tmp_path / "list.txt").write_text("# the best ones\nmore/b.png\nimages/02.png\n")
    assert names(study_of(tmp_path, 4)) == ["00.png", "01.png", "02.png", "03.png"]
    assert names(study_of(tmp_path, 4, folder="images", limit=2)) == ["00.png", "01.png"]
    assert names(study_of(tmp_path, 4, glob="more/**/*")) == ["more/b.png", "more/deep/a.jpg"]
    assert names(study_of(tmp_path, 4, glob=str(tmp_path / "more" / "*.png")))[0].endswith("more/b.png")
    assert names(study_of(tmp_path, 4, files="list.txt")) == ["more/b.png", "images/02.png"]


def write_table(folder: Path, suffix: str) -> None:
    study_of(folder, 6)
    rows = ", ".join(f"('images/{i:02d}.png', '{'odd' if i % 2 else 'even'}')" for i in range(6))
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t AS SELECT * FROM (VALUES {rows}) v(path, label)")
        connection.execute(f"COPY t TO '{folder / ('table.' + suffix)}'")


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_gives_paths_and_labels(tmp_path: Path, suffix: str) -> None:
    write_table(tmp_path, suffix)
    table = f"table.{suffix}"
    assert len(names(study_of(tmp_path, table=table))) == 6
    assert names(study_of(tmp_path, table=table, labels=["odd"])) == [f"images/0{i}.png" for i in (1, 3, 5)]
    with pytest.raises(StudyError, match=r"images\.labels: no image has the label 'odds'; the labels are even, odd"):
        names(study_of(tmp_path, table=table, labels=["odds"]))
    with pytest.raises(StudyError, match=r"there is no column 'p'; the columns are path, label"):
        names(study_of(tmp_path, table=table, path_column="p"))


def test_a_sample_is_random_seeded_and_stratified(tmp_path: Path) -> None:
    write_table(tmp_path, "csv")
    drawn = names(study_of(tmp_path, table="table.csv", sample=3))
    assert drawn == names(study_of(tmp_path, table="table.csv", sample=3)) and len(drawn) == 3
    study = study_of(tmp_path, table="table.csv", sample=3)
    seeds = {tuple(names(load_study(write_study(tmp_path, 6, images=study.images.model_dump(mode="json"), seed=seed))))
             for seed in range(8)}  # fmt: skip
    assert len(seeds) > 1
    for sample in (2, 4):
        found = read_samples(study_of(tmp_path, table="table.csv", sample=sample, stratify=True))
        assert sorted(found.labels.values()) == ["even"] * (sample // 2) + ["odd"] * (sample // 2)
    with pytest.raises(StudyError, match=r"images\.stratify: no image has a label"):
        names(study_of(tmp_path, sample=2, stratify=True))


def test_hugging_face_datasets_in_a_folder(tmp_path: Path) -> None:
    study_of(tmp_path, 2)
    for label, shade in (("cat", 10), ("dog", 200)):
        (tmp_path / "classes" / "train" / label).mkdir(parents=True)
        picture(shade).save(tmp_path / "classes" / "train" / label / "x.png")
    (tmp_path / "described").mkdir()
    picture(30).save(tmp_path / "described" / "y.png")
    (tmp_path / "described" / "metadata.jsonl").write_text(json.dumps({"file_name": "y.png", "label": "bird"}) + "\n")
    (tmp_path / "shards" / "data").mkdir(parents=True)
    file = io.BytesIO()
    picture(40).save(file, "PNG")
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE t (image STRUCT(bytes BLOB, path VARCHAR), kind INTEGER)")
        connection.execute("INSERT INTO t VALUES (row(?, 'z.png'), 3)", [file.getvalue()])
        connection.execute(f"COPY t TO '{tmp_path / 'shards' / 'data' / 'train-0.parquet'}'")
    classes = read_samples(study_of(tmp_path, 2, dataset="classes"))
    assert classes.labels == {"train/cat/x.png": "cat", "train/dog/x.png": "dog"}
    assert names(study_of(tmp_path, 2, dataset="classes", labels=["dog"])) == ["train/dog/x.png"]
    assert read_samples(study_of(tmp_path, 2, dataset="described")).labels == {"y.png": "bird"}
    shards = read_samples(study_of(tmp_path, 2, dataset="shards", label_column="kind"))
    assert shards.labels == {"train-0/z.png": "3"}
    assert shards.pictures["train-0/z.png"].getpixel((0, 0)) == (40, 40, 40)


def test_images_are_chosen_by_what_a_classifier_says_of_them(tmp_path: Path) -> None:
    study_of(tmp_path, 3)
    red = picture(100)
    red.paste((250, 20, 20), (0, 0, 8, 16))
    red.save(tmp_path / "images" / "red.png")
    warm = {"classifier": "v1", "label": "warm", "min_confidence": 0.6}
    assert names(study_of(tmp_path, 3, predicted=warm)) == ["red.png"]
    unclear = {"classifier": "v1", "max_confidence": 0.6}
    assert names(study_of(tmp_path, 3, predicted=unclear, limit=2)) == ["00.png", "01.png"]
    with pytest.raises(
        StudyError, match=r"images\.predicted: none of 4 images passes \(cold 3, warm 1; confidence 0\.5"
    ):
        names(study_of(tmp_path, 3, predicted={**warm, "min_confidence": 1.0}))
    with pytest.raises(ClassifierError, match=r"images\.predicted: .*no class 'hot'; it knows cold, warm"):
        names(study_of(tmp_path, 3, predicted={**warm, "label": "hot"}))


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ({"folder": "nowhere"}, r"nowhere: images\.folder: there is no such folder; put"),
        ({"folder": "empty"}, "there is no picture in it; put files ending in"),
        ({"glob": "nothing/*.png"}, r"images\.glob: 'nothing/\*\.png' matches no picture"),
        ({"files": "list.txt"}, r"list\.txt: images\.files: it cannot be read"),
        ({"files": "empty.txt"}, r"empty\.txt: images\.files: it names no picture"),
        ({"table": "table.csv"}, r"table\.csv: images\.table: there is no such file"),
        ({"table": "table.xls"}, r"table\.xls: images\.table: tables end in \.csv"),
        ({"table": "bare.csv"}, r"images\.path_column: no column is called path, .*the columns are a, b"),
        ({"dataset": "nowhere"}, r"nowhere: images\.dataset: there is no such folder"),
        ({"dataset": "empty"}, r"empty: images\.dataset: there is no picture and no Parquet file"),
    ],
)
def test_a_source_that_is_not_there_says_what_to_do(tmp_path: Path, images: dict[str, Any], sentence: str) -> None:
    study = study_of(tmp_path, 2, **images)
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bare.csv").write_text("a,b\n1,2\n")
    with pytest.raises(StudyError, match=sentence):
        read_samples(study)


def test_equal_pictures_count_once_and_the_order_is_that_of_names(toy: Study, tmp_path: Path) -> None:
    picture(90).save(toy.folder / "images" / "zz_copy_of_00.png")
    store = Store(tmp_path / "r")
    found = list(sample_images(at_work(toy, store=store)).keys.values())
    assert found == [f"{i:02d}.png" for i in range(8)]
    assert list(store.samples("toy").values()) == found


def test_prepared_pictures_are_decoded_when_they_are_looked_up_and_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(write_study(tmp_path, 6))
    alive: list[weakref.ref[Image.Image]] = []
    decode = sample_images_module.read_picture
    most = 0

    def counted(*arguments: Any) -> Image.Image:
        nonlocal most
        picture = decode(*arguments)
        alive.append(weakref.ref(picture))
        most = max(most, sum(each() is not None for each in alive))
        return picture

    monkeypatch.setattr(sample_images_module, "read_picture", counted)
    monkeypatch.setattr("diffex_dagster.store.images.AT_ONCE", 1)  # pictures that are written at the same time
    samples = sample_images(StudyContext(study))
    assert len(samples.keys) == 6 and list(samples.image_keys.values()) == list(samples.keys)
    assert most <= 2

    read = PictureFiles._read
    asked: list[str] = []
    monkeypatch.setattr(PictureFiles, "_read", lambda self, file: asked.append(file) or read(self, file))

    class Looks:
        def propose(self, images: Any, request: Any) -> Proposal:
            assert len(images) == 6 and [each.size for each in images[4:]] == [(16, 16)] * 2
            return Proposal(Corpus(()), "looks")

    propose(StudyContext(study).changed(proposer=Looks()))
    assert len(asked) == 2  # the others are not read for a proposer that looks at few
    assert [each.size for each in samples.pictures.values()] == [(16, 16)] * 6


def test_pipes_devices_and_pictures_for_other_programs_are_left_out_at_once(tmp_path: Path) -> None:
    study = study_of(tmp_path, 20, folder="images")
    folder = tmp_path / "images"
    os.mkfifo(folder / "a pipe.png")
    (folder / "a device.png").symlink_to("/dev/zero")
    (folder / "for Ghostscript.png").write_text(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
    )
    samples = read_samples(study)
    assert len(samples.pictures) == 20
    assert samples.left_out == {"no regular file": ["a device.png", "a pipe.png"]}
    assert samples.unreadable == [("for Ghostscript.png", "not a picture of a known format")]
    named = study_of(tmp_path / "named", 20, files="list.txt", unreadable=0.2)
    (tmp_path / "named" / "list.txt").write_text("\n".join([*(f"images/{i:02d}.png" for i in range(20)), "pipe.png"]))
    os.mkfifo(tmp_path / "named" / "pipe.png")
    assert [why for _, why in read_samples(named).unreadable] == ["it is no regular file"]
