"""Writes and executes the example notebook: `python docs/make_notebook.py` (mkdocs-jupyter brings what it takes)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "notebooks" / "explain.ipynb"
CELLS = (
    """# Explain a classifier in a notebook

Which visual attributes does a classifier rely on? Here it is a small "persona" classifier of drawn avatars, which
says *junior* or *senior*. The pictures are drawn from known attributes, so that an editor without error can redraw
them: no GPU is needed. With your own pictures, put a classifier and a diffusion checkpoint in the same places
(*From Python, without Dagster* says which).""",
    """from pathlib import Path
from tempfile import mkdtemp

from diffex_dagster import explain, explain_image

here = Path("../../studies/avatars")  # the demo's pictures and classifiers
avatars = here.resolve()
classifier = {"kind": "transformers", "checkpoint": str(avatars / "classifiers" / "persona_v1")}
editor = {
    "kind": "python",
    "factory": "diffex_dagster.worlds.avatars:ExactEditor",
    "options": {"attributes": str(avatars / "images" / "attributes.json")},
}
corpus = [
    {"name": "Eyewear", "editable": False, "children": ["round glasses", "black shades"]},
    {"name": "Grey hair", "prompt": "grey hair"},
    {"name": "Majestic beard", "prompt": "a majestic beard"},
    {"name": "Smile", "prompt": "a smile"},
]
kept = Path(mkdtemp())  # edits and scores: asking again costs only what is new""",
    """`explain` edits every picture towards every attribute, scores the edits, and says which attributes move the
score, by how much and how surely. What it returns shows itself: the strongest attributes, each with the picture that it
moved most, and below them every image by every attribute.""",
    """found = explain(
    {"folder": str(avatars / "images"), "limit": 12},
    classifier,
    editor,
    corpus,
    "senior",
    size=64,
    folder=kept,
    progress=False,
    effects={"control_prompts": ["florn", "dorv"]},
)
found""",
    "The same as a table, for whatever comes next:",
    """found.to_frame()[["name", "effect", "ci_low", "ci_high", "decision", "flip_rate"]].round(3)""",
    """One picture asks something else: what moves *this* one, and what is the least that flips the decision about it?
Here is the first that an edit flips. Edits that `explain` has made are not made again.""",
    """flipped = next(row.file for row in found.report.per_image if row.flipped)
one = explain_image(
    here / "images" / flipped,
    classifier,
    editor,
    corpus,
    "senior",
    size=64,
    folder=kept,
    progress=False,
    effects={"control_prompts": ["florn", "dorv"]},
)
one""",
    """`found.to_html(folder)` and `one.to_html(file)` write the pages, self-contained, with every picture.""",
)


CODE = (1, 3, 5, 7)  # the cells that are executed


def cells() -> list[Any]:
    """The cells, not executed."""
    from nbformat.v4 import new_code_cell, new_markdown_cell

    made = []
    for number, text in enumerate(CELLS):
        cell = new_code_cell(text) if number in CODE else new_markdown_cell(text)
        cell["id"] = f"cell-{number}"
        made.append(cell)
    return made


def executed(folder: Path) -> Any:
    """The notebook with its outputs, run in a folder.

    Raises:
        CellExecutionError: a cell fails.
    """
    from nbclient import NotebookClient
    from nbformat.v4 import new_notebook

    notebook = new_notebook(cells=cells(), metadata={"language_info": {"name": "python"}})
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
    ).execute()
    for cell in notebook.cells:
        if "outputs" in cell:  # what libraries write beside them is about this machine
            cell.outputs = [output for output in cell.outputs if output.output_type != "stream"]
        cell.metadata.pop("execution", None)  # when it ran, which is other each time
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


if __name__ == "__main__":
    import nbformat

    FILE.parent.mkdir(exist_ok=True)
    nbformat.write(executed(FILE.parent), FILE)
    sys.stdout.write(f"{FILE}: {FILE.stat().st_size:,} bytes\n")
