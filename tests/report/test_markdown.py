"""The report as one Markdown document: complete, inert, and within its bounds."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image

from diffex_dagster.report.markdown import comparison_markdown, report_markdown
from diffex_dagster.results import Comparison, Control, Example, Report
from tests.support import material


def rendered(text: str) -> str:
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def test_it_says_what_the_page_says(explanation: Report, comparison: Comparison) -> None:
    html = rendered(report_markdown(explanation))
    for feature in explanation.features:
        assert feature.name in html
    assert html.count("<table>") == 1 + bool(explanation.controls)
    assert html.count('src="data:image/webp;base64,') >= 20
    assert all(part in html for part in ("The strongest combination", "Groups", "noise floor", "diffex run avatars"))
    html = rendered(comparison_markdown(comparison))
    assert all(f.name in html for f in comparison.features[:20])
    assert html.count('src="data:image/webp;base64,') >= 10


def test_control_prompts_have_what_is_decided_of_them(explanation: Report) -> None:
    first = Control("flumox", 0.111, 0.052, 0.173, 0.21, 0.14, 0.28, 0.25, 12, "raises", 0.01)
    both = replace(explanation, controls=(first, replace(first, prompt="quazzle", effect=-0.111, decision="lowers")))
    section = report_markdown(both).split("### Control prompts")[1].split("###")[0]
    headings, _, row, other = section.strip().splitlines()
    assert headings == (
        "| words | against the null edit | 95% interval | against the others | 95% interval | flips | decision |"
    )
    assert row == "| flumox | +0.21 | +0.14 to +0.28 | **+0.11** | +0.05 to +0.17 | 25% | ▲ raises |"
    assert "**−0.11**" in other and "▼ lowers" in other
    lone = report_markdown(replace(explanation, controls=(first,))).split("### Control prompts")[1].split("###")[0]
    assert lone.strip().splitlines()[-1] == "| flumox | +0.21 | +0.14 to +0.28 | 25% |"  # there is nothing to decide


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 512])
def test_it_is_never_larger_than_its_limit(explanation: Report, comparison: Comparison, side: int) -> None:
    noise = np.random.default_rng(1)

    def noisy() -> Callable[[], Image.Image]:
        pixels = noise.integers(0, 255, (side, side, 3), np.uint8)
        return lambda: Image.fromarray(pixels)

    def spoiled(example: Example) -> Example:
        return replace(example, null=noisy(), edit=noisy(), succeeded=True)

    examples = {feature: tuple(map(spoiled, each[:4])) for feature, each in explanation.examples.items()}
    large = replace(explanation, examples=examples)
    for limit in (150_000, 40_000):
        text = report_markdown(large, limit)
        assert len(text.encode()) <= limit and "data:image" in text
    assert "data:image" not in report_markdown(large, 1_000)
    features = tuple(
        replace(f, examples=tuple((spoiled(a), spoiled(b)) for a, b in f.examples[:4])) for f in comparison.features
    )
    assert 10_000 < len(comparison_markdown(replace(comparison, features=features)).encode()) <= 150_000


def test_nothing_in_it_does_anything(explanation: Report, comparison: Comparison) -> None:
    bad = material.HOSTILE + " [x](https://e.vil) ![i](https://e.vil/x.png) | <https://e.vil>\n\n# heading"
    features = tuple(replace(f, name=bad, group=bad, prompt=bad) for f in explanation.features)
    groups = tuple(replace(g, name=bad, reason=bad) for g in explanation.groups)
    hostile = replace(
        explanation, title=bad, classifier=bad, target=bad, editor=bad, command=bad, corpus_version=bad, method=bad,
        gate=bad, caveats=(bad,), warnings=(bad,), settings=((bad, bad),), features=features, groups=groups,
    )  # fmt: skip
    rules = tuple(replace(rule, text=bad) for rule in comparison.rules)
    compared = replace(
        comparison, title=bad, classifiers=(bad, bad), target=bad, caveats=(bad,), command=bad, rules=rules,
        features=tuple(replace(f, name=bad, group=bad) for f in comparison.features),
    )  # fmt: skip
    for text, headings in ((report_markdown(hostile), 6), (comparison_markdown(compared), 4)):
        html = rendered(text)
        assert not re.search(r"<(script|a|code|h1|iframe|b)\b", html)
        assert set(re.findall(r'src="(.{10})', html)) == {"data:image"}
        assert html.count("<h") - html.count("<hr") - html.count("<thead") <= headings
        assert "://" not in html.replace("\u2060://", "")
