"""Reference text for the proposer: glossaries, guidelines and taxonomies, cut into passages and chosen.

By embeddings where a model for them is configured, else by BM25 (Robertson and Zaragoza 2009, "The Probabilistic
Relevance Framework: BM25 and Beyond"); the index is `bm25s`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diffex_dagster.corpus.cleaning import Embed
from diffex_dagster.corpus.wording import words
from diffex_dagster.errors import CorpusError
from diffex_dagster.utils.text import read_text

CHARACTERS_PER_TOKEN = 4  # the usual rule of thumb for English; a budget needs no tokenizer
_PASSAGE_CHARACTERS = 900
_MAX_FILE_BYTES = 50_000_000
_READABLE = (".md", ".txt", ".csv", ".pdf")


@dataclass(frozen=True)
class Passage:
    """A piece of reference text, and where it is: "guideline.pdf, page 3"."""

    text: str
    citation: str

    @property
    def tokens(self) -> int:
        """About how many tokens the passage costs, with its citation."""
        return (len(self.text) + len(self.citation)) // CHARACTERS_PER_TOKEN + 4


def read_context(paths: Sequence[str | Path]) -> list[Passage]:
    """Every passage of the reference files, in order.

    Args:
        paths: `.md`, `.txt`, `.csv` or `.pdf` files.

    Raises:
        CorpusError: a file is missing, of another kind, or cannot be read.
    """
    return [passage for path in paths for passage in _passages(Path(path))]


def select(
    passages: Sequence[Passage], query: str, token_budget: int = 1500, embed: Embed | None = None
) -> tuple[Passage, ...]:
    """The passages that fit the query best, within a budget.

    Args:
        passages: what `read_context` gave.
        query: the domain and class names, and anything else to look for.
        token_budget: about how many tokens the passages may cost together.
        embed: an embedding model, where one is configured: fit is then the cosine similarity to the query, not BM25.

    Returns:
        Best first. By BM25 none that shares no word with the query, by embedding none that points away from it. The
        same input gives the same passages.
    """
    if not passages or not query.strip():
        return ()
    scores = _bm25(passages, query) if embed is None else _similarity(passages, query, embed)
    chosen, left = [], token_budget
    for i in sorted(range(len(passages)), key=lambda i: (-float(scores[i]), i)):
        if scores[i] > 0 and passages[i].tokens <= left and passages[i] not in chosen:
            chosen.append(passages[i])
            left -= passages[i].tokens
    return tuple(chosen)


def _bm25(passages: Sequence[Passage], query: str) -> np.ndarray:
    tokenized = [list(words(passage.text)) for passage in passages]
    known = [term for term in dict.fromkeys(words(query)) if any(term in tokens for tokens in tokenized)]
    if not known:
        return np.zeros(len(passages))
    import bm25s

    index = bm25s.BM25()
    index.index(tokenized, show_progress=False)
    return np.asarray(index.get_scores(known))


def _similarity(passages: Sequence[Passage], query: str, embed: Embed) -> np.ndarray:
    vectors = np.asarray(embed([query, *(passage.text for passage in passages)]), dtype=np.float64)
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    similarity: np.ndarray = vectors[1:] @ vectors[0]
    return similarity


def _passages(path: Path) -> Iterator[Passage]:
    suffix = path.suffix.lower()
    if suffix not in _READABLE:
        raise CorpusError(f"{path} is no reference text: use one of {', '.join(_READABLE)}.")
    if not path.is_file():
        raise CorpusError(f"{path} does not exist: correct the path of the reference text in the study.")
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise CorpusError(f"{path} is larger than {_MAX_FILE_BYTES // 1_000_000} MB: name a part of it.")
    if suffix == ".pdf":
        yield from _pdf(path)
        return
    text = read_text(path)
    if suffix == ".csv":
        yield from _csv(text, path.name)
    elif suffix == ".md":
        yield from _markdown(text, path.name)
    else:
        for number, piece in enumerate(_pieces(text), 1):
            yield Passage(piece, f"{path.name}, passage {number}")


def _pdf(path: Path) -> Iterator[Passage]:
    import pypdf
    from pypdf.errors import PyPdfError

    try:
        reader = pypdf.PdfReader(path)
        pages = [page.extract_text() or "" for page in reader.pages]
    except (PyPdfError, OSError, ValueError, KeyError, RecursionError) as error:
        raise CorpusError(f"{path} cannot be read as PDF ({type(error).__name__}): save its text as .txt.") from None
    if not any(page.strip() for page in pages):
        raise CorpusError(f"{path} holds no text (scanned pages?): run text recognition on it, or save it as .txt.")
    for number, page in enumerate(pages, 1):
        for piece in _pieces(page):
            yield Passage(piece, f"{path.name}, page {number}")


def _csv(text: str, name: str) -> Iterator[Passage]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise CorpusError(f"{name} cannot be read as CSV ({error}): save it as plain text.") from None
    if len(rows) < 2:
        return
    header, *body = rows
    for number, row in enumerate(body, 2):  # numbered as a spreadsheet shows them
        cells = [f"{title.strip()}: {cell.strip()}" for title, cell in zip(header, row, strict=False) if cell.strip()]
        if cells:
            yield Passage("; ".join(cells)[:_PASSAGE_CHARACTERS], f"{name}, row {number}")


def _markdown(text: str, name: str) -> Iterator[Passage]:
    heading = ""
    body: list[str] = []
    sections: list[tuple[str, str]] = []
    for line in [*text.splitlines(), "# "]:
        if re.match(r"#{1,6}\s", line):
            sections.append((heading, "\n".join(body)))
            heading, body = line.lstrip("#").strip(), []
        else:
            body.append(line)
    for heading, section in sections:
        for piece in _pieces(section):
            # the heading names the subject, so it belongs to what is searched
            yield Passage(f"{heading}: {piece}" if heading else piece, f"{name}, {heading}" if heading else name)


def _pieces(text: str) -> Iterator[str]:
    """Paragraphs, joined or cut at sentence ends to pieces of about `_PASSAGE_CHARACTERS` characters."""
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split())):
            while len(sentence) > _PASSAGE_CHARACTERS:
                yield sentence[:_PASSAGE_CHARACTERS]
                sentence = sentence[_PASSAGE_CHARACTERS:]
            if piece and len(piece) + len(sentence) > _PASSAGE_CHARACTERS:
                yield piece
                piece = ""
            piece = f"{piece} {sentence}".strip()
    if piece:
        yield piece
