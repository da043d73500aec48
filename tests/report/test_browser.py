"""The pages in a real Chromium, opened from disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from diffex_dagster.report.applied_page import render_applied
from diffex_dagster.report.files import link_page, write_report
from diffex_dagster.report.image_page import render_image
from diffex_dagster.report.wording import digits_for, signed
from diffex_dagster.results import Report
from tests.support import material

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser
Open = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens a folder's page; afterwards checks that it asked the network for nothing and logged no error."""
    contexts, asked, errors = [], [], []

    def visit(folder: Path, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        context.set_default_timeout(60_000)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: asked.append(request.url[:80]))
        page.on(
            "console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((folder / "index.html").as_uri())
        return page

    yield visit
    for context in contexts:
        context.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in asked if url.startswith("file:")]) == len(contexts)  # the page itself
    assert errors == []


def names(page: Page) -> list[str]:
    return page.locator("#features > li:visible .name").all_inner_texts()


def pictures_drawn(page: Page, selector: str) -> bool:
    return bool(
        page.evaluate(
            "async (s) => { const all = [...document.querySelectorAll(s)];"
            " await Promise.all(all.map((i) => i.decode()));"
            " return all.length > 0 && all.every((i) => i.naturalWidth > 0); }",
            selector,
        )
    )


def test_pictures_show_under_the_policy(opened: Open, report_folder: Path) -> None:
    page = opened(report_folder)
    assert pictures_drawn(page, ".highlights img")
    assert pictures_drawn(page, ".feature .pair img")


def test_sorts(opened: Open, report_folder: Path, explanation: Report) -> None:
    page = opened(report_folder)
    assert names(page) == [f.name for f in explanation.features]
    page.select_option("#sort", "lowering")
    effects = page.eval_on_selector_all("#features > li", "items => items.map(i => Number(i.dataset.effect))")
    assert effects == sorted(effects)
    page.get_by_role("button", name="Feature", exact=True).click()
    assert names(page) == sorted(names(page), key=str.lower)
    assert page.input_value("#sort") == "name"
    page.get_by_role("button", name="Effect", exact=True).click()
    effects = page.eval_on_selector_all("#features > li", "items => items.map(i => Number(i.dataset.effect))")
    assert effects == sorted(effects, reverse=True)


def test_searches_and_filters(opened: Open, report_folder: Path, explanation: Report) -> None:
    page = opened(report_folder)
    page.fill("#find", "glasses round")
    assert names(page) == ["Round glasses"]
    assert page.inner_text("#count") == f"1 of {len(explanation.features)} features"
    page.fill("#find", "no such thing")
    page.click("#clear")
    assert len(names(page)) == len(explanation.features)
    page.select_option("#by-group", "Facial hair")
    assert set(names(page)) == {f.name for f in explanation.features if f.group == "Facial hair"}
    page.select_option("#by-group", "")
    page.select_option("#by-decision", "edit failed")
    assert set(names(page)) == {f.name for f in explanation.features if f.decision == "edit failed"}


def test_a_feature_opens_by_keyboard_and_shows_its_pictures(opened: Open, report_folder: Path) -> None:
    page = opened(report_folder)
    page.locator("#f-1 summary").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#f-1 .triple")
    assert pictures_drawn(page, "#f-1 .triple img")
    assert page.locator("#f-1 h4").all_inner_texts()[:2] == ["Effect on each image", "Moved most"]
    assert "Edits that failed" in page.locator("#f-1 h4").all_inner_texts()
    page.locator("#f-1 .more").click()
    assert page.locator("#f-1 .triple").count() == 12


def test_a_group_opens_and_leads_to_its_features(opened: Open, report_folder: Path) -> None:
    page = opened(report_folder)
    page.locator(".branch summary", has_text="Eyewear").click()
    page.fill("#find", "beard")  # hides the feature that the link leads to
    page.locator(".branch a", has_text="Black shades").click()
    target = page.locator("#features > li", has=page.locator(".name", has_text="Black shades"))
    target.wait_for()  # the page follows the link in an event of its own
    assert target.is_visible()
    assert target.locator("details").get_attribute("open") is not None


def test_the_slider_moves_and_gives_the_focus_back(opened: Open, report_folder: Path) -> None:
    page = opened(report_folder)
    shot = page.locator(".shot").first
    shot.click()
    assert page.locator("#slider").is_visible()
    page.keyboard.press("ArrowRight")
    assert page.input_value("#cut") == "51"
    page.fill("#cut", "20")
    clip = page.eval_on_selector("#slider-after", "i => getComputedStyle(i).clipPath")
    assert "20%" in clip
    box = page.locator("#stage").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] / 2)
    assert 74 <= int(page.input_value("#cut")) <= 76
    assert pictures_drawn(page, "#stage img")
    page.locator("#slider-original").check()
    assert page.inner_text("#slider-from") == "original"
    where = page.inner_text("#slider-where")
    page.locator("#slider-next:enabled, #slider-prev:enabled").first.click()
    assert page.inner_text("#slider-where") != where
    page.keyboard.press("Escape")
    assert not page.locator("#slider").is_visible()
    assert shot.evaluate("node => node === document.activeElement")


@pytest.mark.parametrize("width", [360, 768, 1280])
@pytest.mark.parametrize("kind", ["report", "comparison"])
def test_nothing_runs_off_the_side(opened: Open, kind: str, width: int, request: pytest.FixtureRequest) -> None:
    page = opened(request.getfixturevalue(f"{kind}_folder"), viewport={"width": width, "height": 800})
    page.locator("#features summary").first.click()
    page.wait_for_selector("#features .triple")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["report", "comparison"])
def test_axe_finds_no_serious_violation(opened: Open, kind: str, scheme: str, request: pytest.FixtureRequest) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(request.getfixturevalue(f"{kind}_folder"), color_scheme=scheme)
    page.locator("#features summary").first.click()
    page.wait_for_selector("#features .triple")
    for branch in page.locator(".branch summary").all()[:1]:
        branch.click()
    if kind == "report":
        page.locator("#gallery-table tbody td").first.click()
    serious(Axe().run(page).response["violations"])
    page.locator("#features .triple").first.click()
    serious(Axe().run(page).response["violations"])


def serious(violations: list[dict]) -> None:
    found = [
        {"rule": v["id"], "help": v["help"], "at": [node["target"] for node in v["nodes"][:3]]}
        for v in violations
        if v["impact"] in ("serious", "critical")
    ]
    assert found == [], json.dumps(found, indent=2)


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (990, "light"), (1280, "dark")])
def test_the_page_of_one_image(opened: Open, tmp_path: Path, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = material.image_finding(material.HOSTILE, material.HOSTILE)
    (tmp_path / "index.html").write_text(render_image(found, "../index.html"), "utf-8")
    page = opened(tmp_path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert pictures_drawn(page, "img") and page.locator("script").count() == 0
    for details in page.locator("details > summary").all():
        details.click()
    assert page.locator(".of-image > li").count() == len(found.features)
    over = "li => [...li.children].some(e => e.scrollWidth > e.clientWidth + 1 || right(e) > right(li) + 1)"
    over = f"all => {{ const right = e => e.getBoundingClientRect().right; return all.filter({over}).length }}"
    assert page.locator(".of-image > li").evaluate_all(over) == 0  # no word runs out of its column
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    serious(Axe().run(page).response["violations"])


def test_thumbnails_lead_to_the_page_of_their_image_where_there_is_one(
    opened: Open, tmp_path: Path, explanation: Report
) -> None:
    write_report(explanation, tmp_path)
    key = explanation.examples[explanation.features[0].feature][0].image
    link_page(tmp_path / "index.html", (), {key: f"images/{key}.html"})
    page = opened(tmp_path)
    page.locator("#f-0 summary").first.click()
    page.locator("#f-0 .more").click()
    links = page.locator("#f-0 .why-link")
    assert links.count() == 1 and links.get_attribute("href") == f"images/{key}.html"
    link_page(tmp_path / "index.html", (), {})
    assert '<script type="application/json" id="image-pages">{}</script>' in (tmp_path / "index.html").read_text(
        "utf-8"
    )


def test_the_comparison_sorts_filters_and_opens(opened: Open, comparison_folder: Path) -> None:
    page = opened(comparison_folder)
    page.select_option("#by-decision", "more reliant")
    assert "Grey hair" in names(page) and "Round glasses" not in names(page)
    page.select_option("#by-decision", "")
    page.get_by_role("button", name="Feature", exact=True).click()
    assert names(page) == sorted(names(page), key=str.lower)
    page.locator("#features summary").first.click()
    page.wait_for_selector("#features .triple")
    page.locator(".shot").first.click()
    assert "persona_v2" in page.inner_text("#slider-lines")
    page.keyboard.press("Escape")


def test_hostile_names_run_nothing(opened: Open, tmp_path: Path) -> None:
    write_report(material.hostile(), tmp_path)
    page = opened(tmp_path)
    page.on("dialog", lambda dialog: pytest.fail(f"a name ran as script: {dialog.message}"))
    page.locator("#features summary").first.click()
    page.wait_for_selector("#features .triple")
    page.locator("#features .triple").first.click()
    assert page.inner_text("#slider-title") == material.HOSTILE
    page.keyboard.press("Escape")


def test_it_prints_with_the_strongest_features_open(opened: Open, report_folder: Path) -> None:
    page = opened(report_folder)
    assert page.pdf(format="A4", print_background=True).startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#features details[open]").count() == 6
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#features details[open]").count() == 0


def cells(page: Page) -> list[str]:
    return page.locator("#gallery-table tbody tr th").all_inner_texts()


def test_the_gallery_orders_and_filters_images(opened: Open, report_folder: Path, explanation: Report) -> None:
    page = opened(report_folder)
    rows, columns = len(cells(page)), page.locator("#gallery-table thead th").count() - 1
    assert rows == 12 and columns == len(explanation.features)
    page.select_option("#gallery-images", "name")
    assert cells(page) == sorted(cells(page))
    page.locator("#gallery-table thead th").nth(1).click()
    assert explanation.features[0].name in page.inner_text("#gallery-count")
    effects = page.eval_on_selector_all(
        "#gallery-table tbody tr td:nth-child(2)",
        "all => all.map(td => Number(td.getAttribute('aria-label').split(',')[0].replace('−', '-')))",
    )
    assert effects == sorted(effects, reverse=True)
    page.select_option('[data-column="1"]', label="north")
    assert page.inner_text("#gallery-count").startswith("4 of 12 images") and len(cells(page)) == 4
    mean = page.locator("#gallery-table tfoot td").first.get_attribute("aria-label")
    assert mean and mean.startswith("mean ")
    page.select_option("#gallery-features", "alike")
    assert page.locator("#gallery-table thead th").count() - 1 == columns


def test_an_effect_that_is_not_shown_orders_nothing(opened: Open, tmp_path: Path) -> None:
    """An image that was so already has no colour: it comes last, by image and by feature, however large its effect."""
    report = material.wide(12, 6)
    rows = tuple(row if row.counted else replace(row, effect=0.9) for row in report.per_image)
    write_report(replace(report, per_image=rows), tmp_path / "report")
    page = opened(tmp_path / "report")
    page.locator("#gallery-table thead th").nth(6).click()
    said = page.eval_on_selector_all(
        "#gallery-table tbody tr td:nth-child(7)", "all => all.map(td => td.getAttribute('aria-label'))"
    )
    assert [label.endswith("was so already") for label in said] == [False] * 11 + [True]
    page.locator("#gallery-table tbody tr").last.locator("th").click()
    names = page.locator("#gallery-strip .tiles li .tile-name").all_inner_texts()
    assert names[:2] == ["the image", "null edit"] and names[-1] == report.features[5].name
    assert "was so already" in page.locator("#gallery-strip .tiles li").last.inner_text()


@pytest.mark.parametrize("width", [390, 1280])
def test_the_gallery_cuts_the_start_of_a_long_name(opened: Open, tmp_path: Path, width: int) -> None:
    """The end tells images apart: it is inside of the row's heading, and the start is cut."""
    report = material.wide(4, 3)
    rows = tuple(replace(row, file=f"a/photo_of_the_second_survey_north_{row.file}") for row in report.per_image)
    write_report(replace(report, per_image=rows), tmp_path / "report")
    page = opened(tmp_path / "report", viewport={"width": width, "height": 800})
    assert sorted(cells(page)) == [f"photo_of_the_second_survey_north_{i:03d}.png" for i in range(4)]
    boxes = page.eval_on_selector_all(
        "#gallery-table tbody th",
        "all => all.map(th => [th, th.querySelector('span'), th.querySelector('bdi')]"
        ".map(node => { const box = node.getBoundingClientRect(); return [box.left, box.right]; }))",
    )
    for heading, shown, text in boxes:
        assert heading[0] <= shown[0] < shown[1] <= heading[1]
        assert text[1] == pytest.approx(shown[1], abs=1) and text[0] < shown[0] - 20


def test_the_gallery_s_means_are_the_effects_that_are_ranked(
    opened: Open, report_folder: Path, explanation: Report
) -> None:
    """Over every image that is counted, those whose edit failed among them."""
    assert any(row.succeeded is False and row.counted for row in explanation.per_image)
    page = opened(report_folder)
    digits = digits_for(f.effect for f in explanation.features)
    means = page.eval_on_selector_all("#gallery-table tfoot td", "all => all.map(td => td.getAttribute('aria-label'))")
    assert means == [f"mean {signed(f.effect, digits)}" for f in explanation.features]


def test_the_gallery_is_used_by_keyboard_and_shows_an_image_s_edits(opened: Open, report_folder: Path) -> None:
    page = opened(report_folder)
    assert page.locator("#gallery-table [tabindex='0']").count() == 1
    page.locator("#gallery-table [tabindex='0']").focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    at = page.evaluate("[document.activeElement.parentNode.rowIndex, document.activeElement.cellIndex]")
    assert at == [2, 2]
    page.keyboard.press("Enter")
    assert page.locator("#gallery-strip .tiles li").count() == page.locator("#gallery-table thead th").count() + 1
    assert page.locator("#gallery-strip .chosen").count() == 1
    assert "data:image/webp" in page.eval_on_selector(
        "#gallery-strip .tile", "node => getComputedStyle(node).backgroundImage"
    )
    page.keyboard.press("Escape")
    assert page.locator("#gallery-strip").is_hidden()
    assert page.evaluate("[document.activeElement.parentNode.rowIndex, document.activeElement.cellIndex]") == [2, 2]
    page.keyboard.press("Home")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.parentNode.rowIndex") == 0


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1280, "dark")])
def test_the_page_of_other_images(opened: Open, tmp_path: Path, width: int, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    found = material.applied(material.HOSTILE)
    (tmp_path / "index.html").write_text(render_applied(found), "utf-8")
    page = opened(tmp_path, viewport={"width": width, "height": 800}, color_scheme=scheme)
    for details in page.locator("details > summary").all():
        details.click()
    assert pictures_drawn(page, "img") and page.locator("script").count() == 0
    assert page.locator(".contacts > li").count() == sum(f.carriers or 0 for f in found.features)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    serious(Axe().run(page).response["violations"])
