"""Files that somebody asked for: links are followed, pipes and devices written into, and no other reason is guessed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from diffex_dagster.errors import DiffExError
from diffex_dagster.utils.files import check_output, write_output


def test_a_link_is_followed_also_to_what_is_not_there_yet(tmp_path: Path) -> None:
    link, there = tmp_path / "results.json", tmp_path / "data" / "x.json"
    link.symlink_to(there)
    for content in (b"first", b"second"):
        check_output(link)
        write_output(link, content)
        assert link.is_symlink() and there.read_bytes() == content
    assert [each.name for each in there.parent.iterdir()] == ["x.json"]


def test_a_pipe_is_written_into_and_looking_at_it_ends_nothing(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    check_output(pipe)  # nobody reads yet: opening it would wait
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_output(pipe, b"figures")
    reader.join(10)
    assert read == [b"figures"] and pipe.is_fifo()


def test_what_a_program_has_open_is_added_to(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb", buffering=0) as out:
        out.write(b"a table\n")
        opened = Path(f"/proc/self/fd/{out.fileno()}")
        if not opened.exists():
            pytest.skip("this system does not list open files")
        check_output(opened)
        write_output(opened, b"{}\n")
        assert os.fstat(out.fileno()).st_ino == (tmp_path / "out").stat().st_ino
    assert (tmp_path / "out").read_bytes() == b"a table\n{}\n"


def test_why_a_file_cannot_be_written_and_what_to_do_fit_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    for name in ("file/x.json", "file/in/x.json"):
        with pytest.raises(DiffExError, match=rf"{name}: .* written \(.*/file is no folder\); name another one$"):
            check_output(tmp_path / name)
    with pytest.raises(DiffExError, match=r"\(Is a directory\); name another one$"):
        check_output(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("diffex_dagster.utils.files.write_atomically", full)
    with pytest.raises(DiffExError, match=r"\(No space left on device\); make room, or name another one, on a disk"):
        write_output(tmp_path / "x.json", b"")


def test_a_figure_too_is_checked_before_anything_is_measured(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from diffex_dagster.cli.bench import bench

    (tmp_path / "file").touch()
    found = CliRunner().invoke(bench, ["truth", "no-such-study", "--figure", str(tmp_path / "file" / "x.png")])
    assert isinstance(found.exception, DiffExError) and "this file cannot be written" in str(found.exception)
