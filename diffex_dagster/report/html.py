"""Turns a template into one self-contained page under a strict content security policy."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup, escape

from diffex_dagster.report import wording
from diffex_dagster.report.matrix import signed_share
from diffex_dagster.report.pictures import Book
from diffex_dagster.report.wording import compared_flips, reliances
from diffex_dagster.version import __version__


def emphasised(sentence: str, target: str) -> Markup:
    """Escape a sentence and mark the features in it: what stands between typographic quotes, but not the target's
    classes, of which the sentence may have the beginning only.
    """
    own = str(escape(wording.curly(target)))

    def mark(match: re.Match[str]) -> str:
        of_target = f"“{match.group(1).removesuffix('…')}" in own and match.group(1).endswith("…")
        return match.group() if of_target or match.group() in own else f'<b class="term">{match.group(1)}</b>'

    return Markup(re.sub("“([^”]*)”", mark, str(escape(sentence))))  # noqa: S704 (escaped before it is marked)


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("diffex_dagster.report", "templates"),
        autoescape=True,  # for every template: names come from a VLM and are not to be trusted
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "signed": wording.signed,
        "number": wording.number,
        "share": wording.share,
        "percent": wording.percent,
        "signed_share": signed_share,
        "glyph": wording.glyph,
        "kind": wording.kind,
        "plain": wording.plain,
        "title": wording.titled,
        "curly": wording.curly,
        "capitalised": wording.capitalised,
        "reliances": reliances,
        "flips": wording.flips,
        "turned": wording.turned,
        "compared_flips": compared_flips,
        "emphasised": emphasised,
    }
    environment.globals |= {"count": wording.count, "version": __version__, "meanings": wording.MEANINGS,
                            "changes": wording.CHANGES, "of_one": wording.OF_ONE,
                            "redraws": wording.REDRAWS, "shows": wording.SHOWS, "marked": wording.marked,
                            "had_it": wording.HAD_IT}  # fmt: skip
    return environment


@functools.cache
def _static(name: str) -> str:
    return (files("diffex_dagster.report") / "templates" / name).read_text("utf-8")


def _source(text: str) -> str:
    """A CSP source that allows exactly this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_OTHERS = re.compile("<!-- other pages -->.*?<!-- end -->", re.DOTALL)
_IMAGES = re.compile('<script type="application/json" id="image-pages">.*?</script>', re.DOTALL)


def linked(page: str, links: Sequence[tuple[str, str]], images: Mapping[str, str] | None = None) -> str:
    """A page with other links to the other pages of its study.

    Args:
        links: (what, address relative to the page).
        images: image key -> address of the page about that image alone.
    """
    nav = str(_environment().get_template("macros.html.j2").module.others(links)).strip()  # type: ignore[attr-defined]
    block = f'<script type="application/json" id="image-pages">{htmlsafe_json_dumps(dict(images or {}))}</script>'
    return _IMAGES.sub(lambda _: block, _OTHERS.sub(lambda _: nav, page, count=1), count=1)


def as_data(value: Any) -> Markup:
    """JSON for a block of data: no name in it can end the block."""
    return htmlsafe_json_dumps(value)


def render(template: str, book: Book, examples: list[Any], script: str | None = "page.js", **context: Any) -> str:
    """Render a page; `script` are the files of the one script that may run on it, if any, separated by blanks.

    The pictures and the examples go into a JSON block that the script reads, so that each picture is in the page once.
    `<`, `>`, `&` and `'` in it are written as `\\u00xx`: no name can end the block.
    """
    style, code = _static("page.css"), "".join(map(_static, script.split())) if script else ""
    scripts = f"script-src {_source(code)}; " if script else ""
    # The block of data is no script: the policy lets nothing run but the one script, and nothing load but data: images.
    policy = (
        f"default-src 'none'; img-src data:; style-src {_source(style)}; {scripts}base-uri 'none'; form-action 'none'"
    )
    data = htmlsafe_json_dumps({"pictures": book.encoded, "examples": examples})
    page = _environment().get_template(template)
    inline = {"style": Markup(style), "script": Markup(code)}  # noqa: S704 (files of this package)
    pictures = {"data": data, "native": book.native, "pictures": book.encoded, "sizes": book.sizes}
    return page.render(policy=policy, **inline, **pictures, **context)
