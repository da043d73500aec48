"""A copy of the package with one more kind of something: a file, and a line in the family's `kinds.py`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import diffex_dagster

PACKAGE = Path(diffex_dagster.__file__).parent
BEFORE = """
import sys
from pathlib import Path
from diffex_dagster.study import load_study
study = load_study(Path(sys.argv[1]))
heavy = sorted({"torch", "duckdb", "dagster", "transformers", "diffusers"} & set(sys.modules))
"""


def asked_of_a_package_with(
    folder: Path, room: str, file: str, source: str, name: str, study: Path, question: str
) -> str:
    """What a program prints that runs with the new kind; it finds `study`, and `heavy`: what reading it has loaded.

    Args:
        folder: where the copy is made.
        room: of the package, with a `kinds.py`.
        file: the new module in it.
        source: the module.
        name: its class, which the line in `kinds.py` imports.
        study: a study file that names the kind.
        question: the program.
    """
    package = folder / "source" / "diffex_dagster"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / room / f"{file}.py").write_text(source, "utf-8")
    kinds = package / room / "kinds.py"
    before, after = kinds.read_text("utf-8").split("\nKINDS", 1)
    line = f"from diffex_dagster.{room.replace('/', '.')}.{file} import {name} as {name}\n"
    kinds.write_text(f"{before}{line}\nKINDS{after}", "utf-8")
    said = subprocess.run(
        [sys.executable, "-c", BEFORE + question, str(study)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(folder / "source"), str(PACKAGE.parent)])},
        capture_output=True, text=True, check=False, cwd=folder,
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    return said.stdout.strip()
