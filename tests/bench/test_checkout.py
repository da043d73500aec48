"""What is published was measured at a commit that a reader can check out."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from diffex_dagster.bench import checkout, pages
from diffex_dagster.bench.exam_tables import DOCS
from diffex_dagster.errors import DiffExError


def git(folder: Path, *asked: str) -> str:
    named = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", "-C", folder, *named, *asked], capture_output=True, text=True, check=True).stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of three commits, the last of which is on a branch of its own that is not checked out."""
    folder = tmp_path / "repository" / "package"
    folder.mkdir(parents=True)
    git(folder.parent, "init", "--quiet", "--initial-branch=main")
    for number, branch in enumerate(("main", "main", "aside")):
        if branch == "aside":
            git(folder, "checkout", "--quiet", "-b", branch)
        (folder / "code.py").write_text(f"{number}\n")
        git(folder, "add", "code.py")
        git(folder, "commit", "--quiet", "--message", str(number))
    git(folder, "checkout", "--quiet", "main")
    monkeypatch.setattr(checkout, "HERE", folder)
    monkeypatch.setattr(pages, "in_history", checkout.in_history)
    return folder


def test_the_commit_is_that_of_the_code_with_a_plus_where_its_files_differ(repository: Path) -> None:
    head = git(repository, "rev-parse", "HEAD")
    assert checkout.commit() == head[:7]
    (repository / "code.py").write_text("changed\n")
    assert checkout.commit() == head[:7] + "+"


def test_figures_of_a_commit_in_the_history_are_published(repository: Path) -> None:
    for name in ("HEAD", "HEAD~1"):
        whole = git(repository, "rev-parse", name).strip()
        assert pages.commit_of({"commit": whole[:7]}, None) == whole[:7] == pages.commit_of({}, whole[:7])


def test_figures_that_no_reader_could_measure_again_are_refused(repository: Path) -> None:
    head, aside = (git(repository, "rev-parse", name)[:7] for name in ("main", "aside"))
    with pytest.raises(
        DiffExError, match=rf"at {head}\+, with changes that no commit holds.*: commit them, and measure"
    ):
        pages.commit_of({"commit": f"{head}+"}, head)  # what a person says does not stand against the file
    for other in (aside, "0123456", "main", "--all"):
        with pytest.raises(DiffExError, match=f"at {other}, which is no commit in the history of this checkout"):
            pages.commit_of({}, other)


def test_without_git_nothing_is_known_and_nothing_refused_but_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(checkout, "HERE", tmp_path)
    monkeypatch.setattr(pages, "in_history", checkout.in_history)
    assert checkout.commit() is None and checkout.in_history("0123456") is None
    assert pages.commit_of({}, "0123456") == "0123456"
    with pytest.raises(DiffExError, match="no commit holds"):
        pages.commit_of({"commit": "0123456+"}, None)


def test_all_that_is_published_was_measured_at_a_commit_of_the_history() -> None:
    if checkout.commit() is None or checkout._git("rev-parse", "--is-shallow-repository").strip() == "true":
        pytest.skip("the history is not there")
    files = ("exam", "exam_scenes", "settings", "settings_scenes", "development")
    figures = [json.loads((DOCS / "figures" / f"{name}.json").read_text("utf-8")) for name in files]
    commits = {run["commit"] for each in figures for run in each.get("runs", [each])}
    assert [commit for commit in sorted(commits) if not checkout.in_history(commit)] == []
