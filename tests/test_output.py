"""What is printed: progress in log files, marks under any encoding, explanations in a notebook."""

from __future__ import annotations

import html
import io
import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from rich.console import Console
from rich.table import Table
from rich.text import Text

from diffex_dagster.cli import console
from diffex_dagster.corpus.starters import load_starter
from diffex_dagster.report.notebook import as_html, in_lines
from diffex_dagster.report.wording import edited_thing, feature_title
from diffex_dagster.utils.lines import in_print
from diffex_dagster.utils.output import every_letter, print_exact
from diffex_dagster.utils.progress import LogReporter, Pace, lines, shown
from tests.support.material import comparison, explanation, hostile
from tests.support.toys import write_study

ROOT = Path(__file__).parent.parent


def test_progress_in_a_file_is_a_line_for_each_stage_and_nothing_that_moves() -> None:
    file = io.StringIO()
    with shown(Console(file=file, width=80)) as report:
        for done in range(4):
            report("level1_edits", done, 3, 5)
        report("scores", 0, 7, 0)
    said = file.getvalue().splitlines()
    assert said[0] == "level1_edits: 0 of 3 done; 5 reused"
    assert said[-2:] == ["level1_edits: 3 of 3 done; 5 reused", "scores: 0 of 7 done; 0 reused"]
    assert "\x1b" not in file.getvalue() and "\r" not in file.getvalue()


def test_a_notebook_has_a_bar_that_needs_no_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    class Output(ModuleType):
        HTML = str

        @staticmethod
        def display(what: str, display_id: bool) -> SimpleNamespace:
            return SimpleNamespace(update=drawn.append)

    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", Output("IPython.display"))
    with shown(Console(force_jupyter=True)) as report:
        for done in range(4):
            report("level-1 <edits>", done, 3, 5)
        report("nothing", 0, 0, 0)
    assert 'value="3" max="3"' in drawn[-2] and "3 of 3; 5 reused" in drawn[-2] and drawn[-1] == ""
    assert "level-1 &lt;edits&gt;" in drawn[0] and not any("nothing" in each for each in drawn)


def test_the_time_that_is_left_goes_by_the_items_and_not_by_what_came_before_them() -> None:
    pace = Pace()
    assert pace.left(0, 100, 0.0) == ""
    assert pace.left(10, 100, 500.0) == ""  # 500 seconds of loading and inverting say nothing of the next items
    assert pace.left(20, 100, 510.0) == ", about 80 s left"
    assert pace.left(20, 100, 515.0) == ", about 80 s left"
    assert pace.left(100, 100, 600.0) == ""
    assert pace.left(5, 50, 610.0) == ""  # another pass of the same name begins anew
    assert pace.left(10, 50, 620.0) == ", about 80 s left"


def test_lines_come_as_often_as_asked_and_every_stage_has_a_first_one() -> None:
    said: list[str] = []
    report = LogReporter(said.append, every=0.0)
    for done in range(3):
        report("a", done, 2, 0)
    assert [line.partition(" done")[0] for line in said] == ["a: 0 of 2", "a: 1 of 2", "a: 2 of 2"]
    rare = LogReporter(said.append, every=1000.0)
    said.clear()
    for stage in ("a", "b"):
        for done in range(3):
            rare(stage, done, 2, 0)
    assert [line.partition(" done")[0] for line in said] == ["a: 0 of 2", "a: 2 of 2", "b: 0 of 2", "b: 2 of 2"]


def test_a_stage_that_says_nothing_for_long_is_still_heard_of() -> None:
    heard = threading.Event()
    said: list[str] = []

    def hear(line: str) -> None:
        said.append(line)
        if "still at it" in line:
            heard.set()

    with lines(hear, silence=0.02) as report:
        report("level1_edits", 0, 9, 0)
        assert heard.wait(20)
    assert any(line.startswith("level1_edits: still at it after") for line in said)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1", "cp437", "koi8-r"])
def test_marks_that_an_encoding_lacks_are_written_in_plain_letters(encoding: str) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    every_letter(stream)
    text = "▲ raises −0.31 → ρ 0.9 … Müller 日本 \u202e"
    stream.write(text)
    stream.flush()
    written = raw.getvalue().decode(encoding)
    assert len(written) == len(text) and "raises" in written and "0.31" in written
    if encoding == "ascii":
        assert written == "^ raises -0.31 > r 0.9 . Muller ?? ?"


def test_data_keeps_every_letter_whatever_the_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_exact("name,▲\n", end="")
    print_exact("plain")
    sys.stdout.flush()
    assert raw.getvalue().decode("utf-8") == "name,▲\nplain\n"


IN_ONE_PROCESS = """
import json, sys
from diffex_dagster.cli.main import main

for words in json.loads(sys.argv[1]):
    sys.argv = ["diffex", *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, words
    print("<ended>")
"""


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_the_command_line_prints_under_any_encoding(tmp_path: Path, encoding: str) -> None:
    write_study(tmp_path / "s", 4, search={"joint_size": 1})
    environment = {
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": encoding,
        "HF_HUB_OFFLINE": "1",
        "PATH": "/usr/bin:/bin",
    }

    study = str(tmp_path / "s")
    commands = (("run", study), ("show", study, "v1"), ("compare", study), ("plan", study), ("corpus", "show", study))
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", IN_ONE_PROCESS, json.dumps(commands)],
        env=environment, cwd=ROOT, capture_output=True, text=True, encoding=encoding,
    )  # fmt: skip
    assert found.returncode == 0 and "Traceback" not in found.stderr, found.stderr
    assert "level-1 edits: 0 of" in found.stderr  # lines instead of a bar
    assert found.stdout.count("<ended>") == len(commands) and "Dark red" in found.stdout.split("<ended>")[-2]


def test_a_reader_that_leaves_early_ends_the_program_without_a_traceback() -> None:
    code = (
        "from diffex_dagster.utils.output import gone_quietly\n"
        "with gone_quietly():\n    for _ in range(100_000):\n        print('x' * 100)\n"
    )
    command = f'{sys.executable} -c "{code}" | head -1; exit ${{PIPESTATUS[0]}}'
    found = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert found.returncode == 141 and "Traceback" not in found.stderr, found.stderr


def test_an_explanation_is_ten_lines_of_text_and_a_table_with_pictures() -> None:
    made = explanation()
    text = in_lines(made)
    assert len(text.splitlines()) <= 10
    assert made.features[0].name in text and made.target in text
    page = as_html(made)
    assert page.count("<tr>") == 1 + min(8, len(made.features))
    assert "data:image/png;base64," in page
    hinted = replace(made, hints=("Nobody says how <pixels> become its input.",))
    assert len(in_lines(hinted).splitlines()) <= 10 and "look at this first: Nobody says" in in_lines(hinted)
    assert "<b>Look at this first.</b> Nobody says how &lt;pixels&gt; become" in as_html(hinted)
    assert "<script" not in as_html(hostile()) and "\x1b" not in in_lines(hostile())


def test_removing_is_said_the_same_in_a_report_a_comparison_and_a_table() -> None:
    from diffex_dagster.report.comparison_page import render_comparison
    from diffex_dagster.report.markdown_tables import markdown_table
    from diffex_dagster.report.page import render_report
    from diffex_dagster.report.rows import comparison_flat_rows, comparison_rows, rows
    from diffex_dagster.report.survey import render_survey
    from diffex_dagster.report.wording import titled

    made, compared = explanation(), comparison()
    words = {"name": "Clean shaven", "prompt": "facial hair", "direction": "remove"}
    changed = replace(made.features[0], **words)
    made = replace(made, features=(changed, *made.features[1:]))
    compared = replace(compared, features=(replace(compared.features[0], **words), *compared.features[1:]))
    title = "Clean shaven (removes facial hair)"
    assert title in render_report(made) and title in render_comparison(compared)
    assert "without Clean shaven" not in render_report(made) + render_comparison(compared)
    assert titled(changed) == title and title in in_lines(made)
    assert "removes facial hair" in html.unescape(markdown_table(made.features))
    for row in (rows(made.features)[0], comparison_rows(compared)[0], comparison_flat_rows(compared)[0]):
        assert {key: row[key] for key in words} == words
    asked = render_survey(made, 40)
    assert title in asked and '"Clean shaven"' not in asked


def test_a_starter_has_the_edit_that_removes_facial_hair() -> None:
    (shaven,) = [each for each in load_starter("face").walk() if each.name.lower() == "clean shaven"]
    assert (shaven.prompt, shaven.direction) == ("facial hair", "remove")


@pytest.mark.parametrize(
    ("name", "prompt", "direction", "title", "thing"),
    [
        ("Beard", "a beard", "add", "Beard", "Beard"),
        ("Beard", "beard", "remove", "without Beard", "beard"),
        ("Beards", "a beard", "remove", "without Beards", "a beard"),
        ("Clean shaven", "facial hair", "remove", "Clean shaven (removes facial hair)", "facial hair"),
        ("Beard", "", "remove", "without Beard", "Beard"),
    ],
)
def test_a_feature_that_is_removed_says_what_its_edit_takes_away(
    name: str, prompt: str, direction: str, title: str, thing: str
) -> None:
    assert feature_title(name, prompt, direction) == title
    assert edited_thing(name, prompt, direction) == thing


def test_a_terminal_obeys_nothing_in_the_names_that_it_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[2J\x9b1A\u202e\udcff[red].png"
    console.say_error(f"{name}: images:\nit cannot be read")
    console.note(f"{name}\nnext")
    table = Table(name)
    table.add_row(Text(name))
    console.terminal().print(table)
    console.lines().print(name, markup=False)
    console.lines().print(Text(name, style="red"))
    out, err = capsys.readouterr()
    assert err == "error: a[2J1A[red].png: images: it cannot be read\na[2J1A[red].png\nnext\n"
    assert out.count("a[2J1A") == 4 and in_print(out) == out
    shown = io.StringIO()
    console.Console(file=shown, force_terminal=True, color_system="standard").print(Text(name, style="red"))
    assert shown.getvalue() == "\x1b[31ma[2J1A[red].png\x1b[0m\n"  # its own colours stay
