"""Reference text, starter corpora, and what the terminal shows."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from diffex_dagster.corpus.cleaning import clean
from diffex_dagster.corpus.showing import diff, render_tree
from diffex_dagster.corpus.starters import load_starter, starter_names
from diffex_dagster.corpus.tree import Corpus, Drop
from diffex_dagster.corpus.vlm.answers import tree_from_raw
from diffex_dagster.corpus.vlm.context import Passage, read_context, select
from diffex_dagster.errors import CorpusError
from tests.support.material import EVIL


def test_passages_have_citations(tmp_path: Path) -> None:
    (tmp_path / "guide.md").write_text("# Beaks\nA hooked beak.\n\n## Wings\nWhite wing bars.", encoding="utf-8")
    (tmp_path / "terms.csv").write_text("term,meaning\ncrest,feathers on the crown\n,\nmask,\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("One sentence. " * 200, encoding="utf-8")
    passages = read_context([tmp_path / "guide.md", tmp_path / "terms.csv", tmp_path / "notes.txt"])
    assert passages[0] == Passage("Beaks: A hooked beak.", "guide.md, Beaks")
    assert passages[2] == Passage("term: crest; meaning: feathers on the crown", "terms.csv, row 2")
    notes = [passage for passage in passages if passage.citation.startswith("notes.txt")]
    assert len(notes) > 2 and all(len(passage.text) <= 900 for passage in notes)


def pdf(text: str) -> bytes:
    """A one-page PDF, written by hand so that the test needs no writer."""
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    body, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return body + b"xref\n0 6\n0000000000 65535 f \n%strailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(body),
    )


def test_pdf_pages_are_cited(tmp_path: Path) -> None:
    (tmp_path / "guide.pdf").write_bytes(pdf("Drusen are yellow deposits."))
    assert read_context([tmp_path / "guide.pdf"]) == [Passage("Drusen are yellow deposits.", "guide.pdf, page 1")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.docx", b"", "use one of"),
        ("none.md", None, "does not exist"),
        ("bad.pdf", b"not a pdf", "cannot be read as PDF"),
        ("scan.pdf", pdf(""), "no text"),
    ],
)
def test_bad_reference_text_is_an_error(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CorpusError, match=says):
        read_context([tmp_path / name])


def test_the_best_passages_within_the_budget() -> None:
    passages = [
        Passage(f"{text} " * 10, f"p{i}") for i, text in enumerate(["beaks of birds", "tax law", "beak shapes"])
    ]
    assert [passage.citation for passage in select(passages, "bird beak", 1000)] == ["p0", "p2"]
    assert [passage.citation for passage in select(passages, "bird beak", passages[0].tokens)] == ["p0"]
    assert select(passages, "quantum", 1000) == () and select([], "bird", 1000) == () and select(passages, "", 10) == ()
    assert select(passages, "bird beak", 1000) == select(passages, "bird beak", 1000)


@pytest.mark.parametrize("name", starter_names())
def test_every_starter_is_rich_and_clean(name: str) -> None:
    corpus = load_starter(name)
    assert len(corpus.groups) >= 10 and all(len(group.children) >= 4 for group in corpus.groups)
    assert clean(corpus) == corpus, clean(corpus).drops
    assert {feature.source for feature in corpus.walk()} == {"starter"}


def test_starters_by_other_names() -> None:
    assert set(starter_names()) >= {
        "face",
        "bird",
        "leaf-health",
        "retina",
        "wildcat",
        "pet",
        "food",
        "fashion",
        "architecture",
    }
    assert load_starter("birds") == load_starter("bird") == load_starter("Bird")
    assert load_starter("leaf") == load_starter("leaf health")
    with pytest.raises(CorpusError, match="did you mean 'retina'"):
        load_starter("retinae")
    with pytest.raises(CorpusError, match="there are architecture, bird"):
        load_starter("../../etc/passwd")


def shown(renderable: RenderableType) -> str:
    file = io.StringIO()
    Console(width=200, file=file, force_terminal=True, color_system=None).print(renderable)
    return file.getvalue()


def test_names_are_shown_as_text() -> None:
    names = [EVIL, "[red]bold[/red]", "[/]", "[link=file:///x]y"]
    corpus = tree_from_raw([{"name": name, "children": [{"name": name}]} for name in names])
    corpus = Corpus(corpus.groups, (Drop("[bold]\x1b[2Jx", "[/nope]"),))
    text = shown(render_tree(corpus))
    assert all(name in text for name in names) and "[/nope]" in text and "\x1b" not in text


def test_the_tree_shows_prompts_support_and_drops() -> None:
    raw = [
        {
            "name": "Beard",
            "support": 3,
            "children": [{"name": "None", "prompt": "beard", "direction": "remove", "region": "chin"}],
        }
    ]
    text = shown(render_tree(Corpus(tree_from_raw(raw).groups, (Drop("nice", "is too vague to draw"),)), "avatars"))  # type: ignore[arg-type]
    for part in ("avatars", "+ beard", "×3", "− beard", "@chin", "dropped (1)", "nice", "too vague"):
        assert part in text


def test_the_difference_of_two_corpora() -> None:
    before = tree_from_raw([{"name": "Hat", "children": [{"name": "Cap"}, {"name": EVIL}]}])
    after = tree_from_raw([{"name": "Hat", "children": [{"name": "Kepi", "prompt": "cap"}, {"name": "Fez"}]}])
    change = diff(before, after)
    assert [feature.name for feature in change.added] == ["Fez"] == [feature.name for feature in change.new_edits]
    assert [feature.name for feature in change.removed] == [EVIL]
    assert [one.feature.id for one in change.changed] == ["hat/kepi"]
    assert EVIL in shown(change) and "1 features need new edits" in shown(change)
    assert not diff(before, before) and "no difference" in shown(diff(before, before))
