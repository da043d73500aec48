"""The pages as text: escaping, the policy, sizes. What they do in a browser is in test_browser.py."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

import jsonschema
import numpy as np
import pytest
from PIL import Image

from diffex_dagster.effects.confounding import SideEffect
from diffex_dagster.effects.interactions import Interaction
from diffex_dagster.report.comparison_page import render_comparison
from diffex_dagster.report.examples import Failures, sections
from diffex_dagster.report.heatmap import overlay
from diffex_dagster.report.html import linked
from diffex_dagster.report.markdown import report_markdown
from diffex_dagster.report.matrix import matrix
from diffex_dagster.report.page import render_report
from diffex_dagster.report.schema import load_schema, report_as_json, report_from_json
from diffex_dagster.report.verdict import comparison_verdict, verdict
from diffex_dagster.report.wording import CHANGES, MEANINGS, signed
from diffex_dagster.results import Comparison, Example, Report, RuleOutcome, Turn
from tests.support import material


class Page(HTMLParser):
    """Tags, text and the block of data of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside != "style":
            self.text += data

    @property
    def data(self) -> dict:
        return json.loads(self.scripts[0])


@pytest.fixture(scope="module")
def html(explanation: Report) -> str:
    return render_report(explanation)


@pytest.fixture(scope="module")
def comparison_html(comparison: Comparison) -> str:
    return render_comparison(comparison)


def test_the_page_says_the_verdict_and_every_feature(html: str, explanation: Report) -> None:
    text = " ".join(Page(html).text.split())
    for sentence in verdict(explanation):
        assert re.sub("[“”]", "", sentence) in re.sub("[“”]", "", text)
    for feature in explanation.features:
        assert feature.name in text
    for words in ("diffex run avatars --classifier persona_v1", "Aura", "not visible in a picture", "e01f7cc6a9b2d344"):
        assert words in text


def test_every_picture_is_in_the_page_once(html: str, explanation: Report) -> None:
    pictures = Page(html).data["pictures"]
    distinct = {
        picture.tobytes()
        for examples in [*explanation.examples.values(), explanation.joint.examples if explanation.joint else ()]
        for example in examples
        for picture in (example.original, example.null, example.edit)
    }
    overlays = 2 * len(explanation.attributions)
    assert len(pictures) == len(set(pictures)) == len(distinct) + overlays
    assert "data:image/webp;base64," not in html.replace('"data:image/webp;base64," +', "")
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).format == "WEBP"


@pytest.mark.parametrize("page", ["html", "comparison_html"])
def test_the_policy_allows_exactly_the_style_and_the_script(page: str, request: pytest.FixtureRequest) -> None:
    html = request.getfixturevalue(page)
    tags = Page(html).tags
    policy = next(a["content"] for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy and "unsafe" not in policy and policy.startswith("default-src 'none'")
    for kind in ("style", "script"):
        (inline,) = re.findall(rf"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert not any("style" in attributes for _, attributes in tags)  # the policy would block it
    assert not any(key.startswith("on") for _, attributes in tags for key in attributes)
    assert not any((a.get("href") or "#").startswith(("http", "//")) or a.get("src") for _, a in tags)


def hostile_comparison() -> Comparison:
    c, bad = material.comparison(6, draw=material.swatch), material.HOSTILE
    features = tuple(
        replace(f, name=bad, group=bad, examples=tuple((replace(a, image=bad), replace(b, image=bad))
                                                       for a, b in f.examples)) for f in c.features[:3]
    )  # fmt: skip
    return replace(c, study=bad, title=bad, classifiers=(bad, bad + "2"), target=bad, command=bad, features=features,
                   rules=(RuleOutcome(bad, bad, False),), caveats=(bad,), editor=bad, corpus_version=bad)  # fmt: skip


@pytest.mark.parametrize("make", [lambda: render_report(material.hostile()),
                                  lambda: render_comparison(hostile_comparison())])  # fmt: skip
def test_hostile_names_are_text_everywhere(make: Callable[[], str]) -> None:
    html = make()
    page = Page(html)
    assert [tag for tag, _ in page.tags].count("script") == 3  # the data, pages of images, and its own
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "<img src=x" not in html and "alert(2)</script>" not in html
    assert "<img src=x onerror=alert(1)>" in page.text
    assert page.data["examples"][0]["name"] == material.HOSTILE  # unharmed as data


def test_a_confounded_feature_has_a_companion_and_its_numbers(html: str, explanation: Report) -> None:
    text = " ".join(Page(html).text.split())
    assert text.count("confounded with Majestic beard") == 2  # in the ranking, and group by group
    (grey,) = [f for f in explanation.features if f.confounded_with]
    assert "Confounded with Majestic beard: by the judge, these edits also contain 62% of what an edit towards" in text
    assert f"+0.01 of {signed(grey.effect)} is left (95% interval −0.03 to +0.06" in text
    taken = replace(grey, confounded_with=replace(grey.confounded_with, leak=-0.4))
    undone = render_report(replace(explanation, features=(taken,)))
    assert "these edits also undo 40% of what an edit" in " ".join(Page(undone).text.split())
    unseen = replace(grey, confounded_with=replace(grey.confounded_with, leak=math.nan))  # its edits are no yardstick
    page = " ".join(Page(render_report(replace(explanation, features=(unseen,)))).text.split())
    assert "these edits also change it, and the score moves where they do" in page


def test_a_feature_that_nothing_tells_from_another_says_so(explanation: Report) -> None:
    (grey,) = [f for f in explanation.features if f.confounded_with]
    unknown = dict.fromkeys(("direct", "direct_low", "direct_high"), math.nan)
    either = replace(grey.confounded_with, leak=1.0, **unknown)
    between = [replace(each, **unknown) if each.confounded else each for each in explanation.side_effects]
    report = replace(explanation, features=(replace(grey, confounded_with=either),), side_effects=tuple(between))
    shown = matrix(explanation.features, between)
    assert shown is not None
    assert [c.marks for row in shown.rows for c in row.cells if c.marks] == ["cannot be told from it"]
    page = " ".join(Page(render_report(report)).text.split())
    assert page.count("cannot be told from Majestic beard") == 2 and "nan" not in page
    assert "Cannot be told from Majestic beard: by the judge, the edits towards either contain most of what" in page
    other = replace(grey, confounded_with=replace(either, leak=-1.0))
    undone = " ".join(Page(render_report(replace(report, features=(other,)))).text.split())
    assert "the edits towards either undo most of what" in undone
    data = report_as_json(report)["features"][0]["confounded_with"]
    assert (data["leak"], data["direct"]) == (1.0, None)


def test_the_matrix_says_who_does_what_to_whom(explanation: Report) -> None:
    a, b, c = explanation.features[:3]
    found = (
        SideEffect(a.feature, b.feature, 0.456, True, 0.0, 0.0, 0.0, True),
        SideEffect(b.feature, a.feature, -0.2, True, 0.0, 0.0, 0.0, False),
        SideEffect(c.feature, a.feature, 0.9, False, 0.0, 0.0, 0.0, False),
    )
    shown = matrix(explanation.features, found)
    assert shown is not None
    rows = shown.rows
    assert [row.feature for row in rows] == [a, b, c] == list(shown.columns)
    assert [[cell.text for cell in row.cells] for row in rows] == [
        ["", "46%", "–"],
        ["−20%", "", "–"],
        ["90%", "–", ""],
    ]
    kinds = [[cell.kind for cell in row.cells] for row in rows]
    assert kinds[0][:2] == ["itself", "more-2 confounds"]
    assert (kinds[1][0], kinds[2][0]) == ("less-1", "plain")  # what cannot be told from none has no colour
    assert rows[1].cells[0].says == f"{b.name} edited, {a.name} looked for: −20%"
    assert matrix(explanation.features, ()) is None
    of_one = matrix(
        explanation.features,
        (
            SideEffect(a.feature, b.feature, 0.3, True, 0.0, 0.0, 0.0, False),
            SideEffect(a.feature, c.feature, 0.1, True, 0.0, 0.0, 0.0, False),  # too little for a column
            SideEffect(a.feature, "never/edited", math.nan, True, 0.0, 0.0, 0.0, True),
        ),
    )
    assert of_one is not None and (of_one.columns, [row.feature for row in of_one.rows]) == ((a, b), [a])
    page = Page(render_report(replace(explanation, side_effects=())))
    assert not any(a.get("id") == "side-effects" for _, a in page.tags)


def test_what_the_edits_changed_is_a_table_of_what_was_measured(html: str, explanation: Report) -> None:
    text = " ".join(Page(html).text.split())
    first = explanation.features[0]
    cells = (f"{first.edit_strength:.1%}", f"{first.ssim:.3f}", f"{first.lpips:.3f}", f"{first.inside_mask:.0%}")
    assert "".join(f'<td class="num">{cell}</td>' for cell in cells) in html
    assert "“Inside the mask” is the share of the change" in text and "LPIPS 0." in text
    bare = tuple(replace(f, lpips=None, inside_mask=None, mask_area=None) for f in explanation.features)
    text = " ".join(Page(render_report(replace(explanation, features=bare))).text.split())
    assert "The share inside a mask is not applicable" in text and "LPIPS" not in text
    old = tuple(replace(f, ssim=None) for f in bare)
    assert "Every feature in numbers" not in render_report(replace(explanation, features=old))


def picture(seed: int, side: int) -> Image.Image:
    """Smooth like a photograph, noisy like a sensor."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (8, 8, 3), np.uint8)).resize((side, side), Image.Resampling.BICUBIC)
    return Image.fromarray(
        (np.asarray(coarse, float) + rng.normal(0, 6, (side, side, 3))).clip(0, 255).astype(np.uint8)
    )


def large(explanation: Report, features: int, images: int, side: int, distinct: int) -> Report:
    base = explanation.features[0]
    originals = [picture(i, side) for i in range(min(images, distinct))]
    pool = [picture(1000 + i, side) for i in range(distinct)]
    examples = {
        f"f{f}": tuple(
            Example(f"image {i}", originals[i % len(originals)], originals[i % len(originals)],
                    pool[(f * images + i) % distinct], 0.2, 0.2 + 0.01 * (images - i), False)
            for i in range(images)
        )
        for f in range(features)
    }  # fmt: skip
    ranked = tuple(replace(base, rank=f + 1, feature=f"f{f}", name=f"Feature {f}") for f in range(features))
    return replace(explanation, features=ranked, examples=examples, joint=None)


def test_forty_features_of_32_images_stay_under_5_mb(explanation: Report) -> None:
    html = render_report(large(explanation, 40, 32, 64, distinct=1280))
    assert len(html.encode()) < 5_000_000
    assert len(Page(html).data["examples"][0]["items"]) == 32  # nothing had to go


def test_large_pictures_shrink_then_fewer_are_shown_and_the_page_says_so(explanation: Report) -> None:
    html = render_report(large(explanation, 12, 16, 300, distinct=192), budget=400_000)
    page = Page(html)
    assert len(html.encode()) < 1_000_000
    assert 0 < len(page.data["examples"][0]["items"]) < 16
    assert "To keep this page small" in page.text


def test_grad_cam_is_shown_with_its_numbers_and_left_out_where_there_is_none(explanation: Report) -> None:
    page = Page(render_report(explanation))
    assert "Attribution maps" in page.text
    for what in ("Changed part of the picture", "8%", "Evidence there before", "11%", "Evidence there after", "43%"):
        assert what in page.text
    assert "Attribution maps" not in Page(render_report(replace(explanation, attributions=()))).text
    one = replace(explanation.attributions[0], images=0, before=float("nan"))
    assert "No image has evidence" in Page(render_report(replace(explanation, attributions=(one,)))).text


def test_colours_of_a_map_grow_with_it_and_leave_the_picture_where_it_is_zero() -> None:
    grey = Image.new("RGB", (4, 1), (100, 100, 100))
    pixels = np.asarray(overlay(grey, np.array([[0.0, 0.25, 1.0, 9.0]]), highest=1.0)).astype(int)[0]
    assert pixels[0].tolist() == [100, 100, 100] and pixels[3].tolist() == pixels[2].tolist()
    assert pixels[1, 0] < pixels[2, 0] and pixels[2, 0] > pixels[2, 2] + 60  # towards yellow
    assert np.asarray(overlay(grey, np.zeros((1, 4)), 0.0)).tolist() == np.asarray(grey).tolist()


def test_a_report_without_pictures_or_features_still_renders(explanation: Report) -> None:
    bare = replace(explanation, features=(), groups=(), joint=None, drops=(), examples={}, caveats=())
    assert "No feature has been scored" in render_report(bare)
    assert "No pictures were kept" in render_report(replace(explanation, examples={}))


def test_a_number_that_is_not_one_still_renders(explanation: Report) -> None:
    nan = float("nan")
    broken = replace(explanation.features[0], effect=nan, ci_low=nan, ci_high=nan)
    html = render_report(replace(explanation, features=(broken,), joint=None))
    assert "NaN" not in html.split("<script>")[0] and "nan%" not in html


def test_a_pair_that_no_image_lacks_has_dashes_for_numbers(explanation: Report) -> None:
    pair = Interaction("hat", "scarf", *[np.nan] * 5, 0, "too few images", None, "all have it", None, True)
    told = replace(explanation, interactions=(pair,))
    data = report_as_json(told)
    jsonschema.validate(data, load_schema("report-1"))
    (back,) = report_from_json(data).interactions
    assert np.isnan(back.effect) and (back.images, back.curve, back.beyond) == (0, None, None)
    page = render_report(told)
    row = page[page.index('<table class="controls pairs">') :].split("</tr>")[1]
    assert re.findall(r'<td class="num">(.*?)</td>', row) == ["–", "–", "<b>–</b>", "–", "0"]


def test_an_endless_interval_is_said_to_be_none(explanation: Report) -> None:
    endless = replace(explanation.features[0], ci_low=-float("inf"), ci_high=float("inf"), images=1)
    one = replace(explanation, features=(endless,), joint=None)
    assert "too few images for an interval" in verdict(one)[0]
    assert "inf%" not in render_report(one) and "nan%" not in render_report(one)


def test_a_comparison_says_its_verdict_ranks_and_rules(comparison_html: str, comparison: Comparison) -> None:
    text = " ".join(Page(comparison_html).text.split())
    for sentence in comparison_verdict(comparison):
        assert re.sub("[“”]", "", sentence) in re.sub("[“”]", "", text)
    assert "#1 → #" in text and "Flips lost" in text and "stays below 0.05" in text


def test_three_versions_render(comparison: Comparison) -> None:
    features = tuple(
        replace(f, effects=(*f.effects, 0.1), ranks=(*f.ranks, 3), flip_rates=(*f.flip_rates, 0.2))
        for f in comparison.features[:3]
    )
    html = render_comparison(replace(comparison, classifiers=("v1", "v2", "v3"), features=features))
    assert html.count('class="v-mid"') == 1 + 3  # the legend and the rows


def example(effect: float, succeeded: bool = True) -> Example:
    grey = Image.new("RGB", (4, 4), "grey")
    return Example("x", grey, grey, grey, 0.5, 0.5 + effect, False, succeeded=succeeded)


def test_both_ends_and_the_failures_are_shown_once() -> None:
    examples = [example(0.3), example(0.2), example(0.1), example(0.05, succeeded=False), example(0.0), example(-0.1)]
    assert sections(examples, 0.1, 6, Failures()) == [
        ("Moved most", [0, 1]), ("Moved least, or the other way", [4, 5]), ("Edits that failed", [3]),
    ]  # fmt: skip
    assert sections(examples, -0.1, 6, Failures())[0] == ("Moved most", [5, 4])


def test_an_edit_that_changed_nothing_counts_as_failed_and_a_small_one_does_not() -> None:
    grey = Image.new("RGB", (64, 64), "grey")
    small = grey.copy()
    small.paste("black", (20, 30, 44, 34))  # as few pixels as glasses have
    unknown = replace(example(0.1), original=grey, null=grey, edit=grey, succeeded=None)
    failures = Failures()
    assert failures(unknown) == "edit changed almost nothing"
    assert failures(replace(unknown, edit=small)) is None


def test_a_thousand_classes_are_folded_and_one_output_has_none(explanation: Report) -> None:
    many = replace(explanation, labels=tuple(f"class {i}" for i in range(1000)))
    page = render_report(many)
    head, method = page.split('id="h-method"')
    assert "class 500" not in head and "<summary>all 1,000</summary>" in method and "class 999" in method
    one = Page(render_report(replace(explanation, labels=("age",), target="value of “age”", bounded=False, turn=None)))
    assert "Classes" not in one.text and "Flips" not in one.text and "Output" in one.text


def test_what_looks_wrong_about_the_scores_stands_above_the_verdict(explanation: Report) -> None:
    said = "Neither the study nor the <model> says how pixels become its input."
    made = replace(explanation, hints=(said,))
    page = render_report(made)
    assert page.index(escape(said)) < page.index('id="verdict"') and "Look at this first." in page
    assert "Look at this first." not in render_report(replace(explanation, hints=()))
    assert "> **Look at this first.** " in report_markdown(made)
    data = report_as_json(made)
    jsonschema.validate(data, load_schema("report-1"))
    assert report_from_json(data).hints == (said,)


def test_a_combination_whose_interval_holds_zero_has_no_direction(explanation: Report) -> None:
    assert explanation.joint is not None
    unsure = replace(explanation.joint, effect=-0.1, ci_low=-0.9, ci_high=0.1, images=1)
    page = render_report(replace(explanation, joint=unsure))
    together = page[page.index('<div class="sum">') :]
    together = together[: together.index("</div>")]
    assert "inconclusive" in together and "lowers" not in together and "of 1 image and" in page


def test_pages_of_a_study_lead_to_each_other(explanation: Report, comparison: Comparison) -> None:
    links = (("what v2 relies on", "../v2/index.html"), ("what changed", "../comparison/index.html"))
    for page in (render_report(replace(explanation, links=links)), render_comparison(replace(comparison, links=links))):
        found = [attrs.get("href") for tag, attrs in Page(page).tags if tag == "a"]
        assert {"../v2/index.html", "../comparison/index.html"} <= set(found)
    alone = render_report(explanation)
    assert "<nav" not in alone
    assert linked(alone, links) == render_report(replace(explanation, links=links))
    assert linked(linked(alone, links), ()) == alone


def test_the_method_is_that_of_the_editor_in_use(explanation: Report) -> None:
    said = Page(render_report(replace(explanation, method="Another tool made the edits."))).text
    assert "Another tool made the edits." in said and "diffusion model" not in said


def test_each_decision_on_a_page_is_explained_once(explanation: Report, comparison: Comparison) -> None:
    for page, decisions, meanings in (
        (render_report(explanation), {f.decision for f in explanation.features}, MEANINGS),
        (render_comparison(comparison), {f.decision for f in comparison.features}, CHANGES),
    ):
        legend = page.split('class="legend meanings"')[1].split("</p>")[0]
        assert {decision for decision in meanings if meanings[decision] in legend} >= decisions


def test_the_page_says_what_an_image_becomes_beside_that_its_class_changes(explanation: Report) -> None:
    zebra = Turn("the prediction", "becomes “zebra”", "stops being “zebra”", "An image is “zebra” when so.", 1000)
    first = replace(explanation.features[0], becomes=4, leaves=1, flip_rate=9 / 12, images=12)
    shown = Page(render_report(replace(explanation, features=(first,), labels=("zebra",) * 1000, turn=zebra))).text
    for said in ("+4 −1 of 12", "Becomes “zebra”4 of 12", "The predicted class changes9 of 12", "is “zebra” when so"):
        assert said in shown
