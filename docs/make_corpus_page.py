"""Write the prompts and the tree of the avatars study into docs/corpus.md again.

Run `.venv/bin/python docs/make_corpus_page.py`. A test compares the page with `updated(page)`, so that it always shows
what the code sends and gives.
"""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console

from diffex_dagster.cli.corpus import corpus_now
from diffex_dagster.corpus.showing import render_tree
from diffex_dagster.corpus.vlm.prompts import children_prompt, groups_prompt, system_prompt
from diffex_dagster.corpus.vlm.proposer import OpenAIVLM
from diffex_dagster.stages.corpus import proposal_request
from diffex_dagster.stages.setup import classifier_labels
from diffex_dagster.study import load_study
from tests.support.answers import raw_from_tree

PAGE = Path(__file__).parent / "corpus.md"
STUDY = PAGE.parent.parent / "studies" / "avatars"


def snapshots() -> dict[str, str]:
    """What each block of the page shows, by the mark before it."""
    study = load_study(STUDY)
    request = proposal_request(study, classifier_labels(study, list(study.classifiers)))
    corpus = corpus_now(study)
    groups = raw_from_tree(corpus)[: OpenAIVLM(model="any").groups_per_call]
    console = Console(width=110, color_system=None)
    with console.capture() as captured:
        console.print(render_tree(corpus, title=f"{study.name}: corpus"))
    return {
        "system": system_prompt(),
        "first pass": groups_prompt(request),
        "second pass": children_prompt(request, groups),
        "tree": "\n".join(line.rstrip() for line in captured.get().strip().splitlines()),
    }


def updated(page: str) -> str:
    """The page with every marked block as the code gives it now."""
    for name, text in snapshots().items():
        block = re.compile(rf"(<!-- snapshot: {name} -->\n```text\n).*?(\n```\n)", re.DOTALL)
        page, found = block.subn(lambda match, text=text: match.group(1) + text + match.group(2), page)
        if found != 1:
            raise SystemExit(f"{PAGE}: there is no block marked <!-- snapshot: {name} -->")
    return page


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")
