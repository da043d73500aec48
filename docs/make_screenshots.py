"""Take the pictures in docs/ again.

    .venv/bin/python docs/make_screenshots.py            # the UI, on an instance and a copy of the avatars of its own
    .venv/bin/python docs/make_screenshots.py broken     # a study that cannot be loaded
    .venv/bin/python docs/make_screenshots.py reports    # the pages that are there, by the commands in `PAGES`

Needs Chromium. The first runs the study with its exact editor on a few images; then it starts `dagster dev` as a
deployment does, with its places in the environment.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import FloatRect, Page, TimeoutError, sync_playwright
from ruamel.yaml import YAML

DOCS = Path(__file__).parent
ROOT = DOCS.parent
AVATARS = ROOT / "studies" / "avatars"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
PAGES = {  # picture -> (page below studies/, what writes it)
    "report": ("avatars/results/reports/persona_v1/index.html", "make demo"),
    "comparison": ("avatars/results/reports/comparison/index.html", "make demo"),
    "preview": ("avatars/results/preview/diffusion.html", "diffex preview avatars"),
    "scenes_report": ("scenes/results/reports/urban_v1-exact/index.html", "make demo-scenes"),
}
LARGEST = 190_000  # bytes of a picture
IMAGES = 8


def save(page: Page, name: str, width: int | None = None, clip: FloatRect | None = None) -> None:
    """A screenshot with as many colours as fit: what the UI shows has few.

    Args:
        width: in pixels, where it is another than the page's.
        clip: the part of the page that is shown.
    """
    picture = Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")
    if width is not None:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() <= LARGEST:
            break
    (DOCS / f"{name}.png").write_bytes(buffer.getvalue())
    print(f"{name}.png: {buffer.tell():,} bytes, {colours} colours")


def open_page(page: Page, url: str) -> None:
    """Open a page of the Dagster UI, put its welcome away, and wait until the page has settled."""
    page.goto(url)
    page.wait_for_load_state("networkidle")
    with contextlib.suppress(TimeoutError):  # it is shown once only
        page.get_by_role("button", name="Skip", exact=True).click(timeout=4000)
    page.wait_for_timeout(3000)


def lineage(page: Page, url: str) -> None:
    """The whole graph from top to bottom, every group open, and nothing around it."""
    page.add_init_script("localStorage.setItem('asset-graph-direction', JSON.stringify('vertical'))")
    open_page(page, f"{url}/asset-groups")
    page.mouse.move(1200, 700)
    page.keyboard.press("Alt+e")  # expand all groups
    page.wait_for_timeout(4000)
    page.mouse.move(1200, 550)
    page.keyboard.down("Control")
    page.mouse.wheel(0, 100)  # until all of it is in sight; at two steps more the boxes are no longer drawn
    page.wait_for_timeout(500)
    page.keyboard.up("Control")
    page.wait_for_timeout(1500)


def lineage_picture(browser_page: Callable[..., Page], url: str) -> None:
    """The whole graph, drawn so large that its names can be read."""
    page = browser_page(1900, 1100, scale=4)
    lineage(page, url)
    save(page, "lineage", width=1800, clip=graph_of(page))


def graph_of(page: Page) -> FloatRect:
    """Where the boxes of an asset graph are on its page, with a margin."""
    left, top, right, bottom = page.evaluate(
        """() => { const boxes = [...document.querySelectorAll('svg foreignObject')].map(e => e.getBoundingClientRect())
          .filter(b => b.width > 8);
          return [Math.min(...boxes.map(b => b.left)), Math.min(...boxes.map(b => b.top)),
                  Math.max(...boxes.map(b => b.right)), Math.max(...boxes.map(b => b.bottom))] }"""
    )
    return {"x": left - 10, "y": top - 10, "width": right - left + 20, "height": bottom - top + 20}


def write_studies(root: Path) -> Path:
    """The avatars with their exact editor, a few images and weights of their own; returns the study's folder."""
    folder = root / "studies" / "avatars"
    shutil.copytree(AVATARS, folder, ignore=shutil.ignore_patterns("results", "bench", "editor", "exam", "proposals"))
    yaml = YAML()
    study = yaml.load(AVATARS / "study.yaml")
    study["images"]["limit"] = IMAGES
    study["editors"] = {"exact": study["editors"]["exact"]}
    yaml.dump(study, folder / "study.yaml")
    return folder


def new_weights(classifier: Path) -> None:
    """Another checkpoint in the place of a classifier's."""
    from safetensors.torch import load_file, save_file

    file = classifier / "model.safetensors"
    weights = load_file(file)
    bias = next(name for name in weights if "classifier" in name and name.endswith("bias"))
    weights[bias] = weights[bias] + 0.5
    save_file(weights, file, metadata={"format": "pt"})


def ui_pictures(browser_page: Callable[..., Page]) -> None:
    """The UI of a deployment: lineage, sheet, report, resources; new weights."""
    from tests.support.ui import dagster_dev

    with tempfile.TemporaryDirectory() as scratch:
        root, home = Path(scratch), Path(scratch) / "home"
        folder = write_studies(root)
        os.environ |= {
            "DAGSTER_HOME": str(home), "DIFFEX_ROOT": str(root), "DIFFEX_RESULTS": str(root / "results"),
            "DIFFEX_RESULTS_URL": "https://reports.example.org", "DIFFEX_DEVICE": "cpu", "DIFFEX_BATCH_SIZE": "8",
            "DIFFEX_CODE_URL": "https://github.com/acme/explanations/blob/main",
        }  # fmt: skip
        subprocess.run([sys.executable, "-m", "diffex_dagster", "run", "avatars"], check=True, cwd=ROOT)
        with dagster_dev(root, home) as ui:
            lineage_picture(browser_page, ui.url)
            page = browser_page(1280, 1000)
            open_page(page, f"{ui.url}/assets/avatars/level1_edits?view=overview")
            page.get_by_text("[Show Markdown]").click()
            page.wait_for_timeout(1500)
            save(page, "contact_sheet")
            open_page(page, f"{ui.url}/assets/avatars/persona_v1/ranked_report?view=overview")
            page.locator("tr", has_text="report").get_by_text("[Show Markdown]").last.click()
            page.get_by_role("heading", name="Ranking").wait_for()
            page.get_by_role("heading", name="Junior or senior?").scroll_into_view_if_needed()
            page.wait_for_timeout(1500)
            save(page, "deployed_report")
            page = browser_page(1700, 600)
            open_page(page, f"{ui.url}/locations/{ui.repository}@{ui.location}/resources/diffex_results")
            save(page, "deployed_resources")
            new_weights(folder / "classifiers" / "persona_v1")
            ui.launch(["avatars/persona_v1/classifier"])
            page = browser_page(2300, 800)
            open_page(page, f"{ui.url}/assets/avatars/persona_v1/classifier?view=lineage&lineageScope=downstream")
            save(page, "new_weights", width=1500)


def broken_picture(browser_page: Callable[..., Page]) -> None:
    """A study that cannot be loaded, beside one that can."""
    from tests.support.ui import dagster_dev

    with tempfile.TemporaryDirectory() as scratch:
        root, home = Path(scratch), Path(scratch) / "home"
        home.mkdir()
        write_studies(root)
        broken = root / "studies" / "faces"
        broken.mkdir()
        (broken / "study.yaml").write_text((AVATARS / "study.yaml").read_text().replace("target:", "tarrget:"))
        with dagster_dev(root, home) as ui:
            page = browser_page(1700, 900)
            open_page(page, f"{ui.url}/asset-groups")
            page.get_by_text("faces_broken").last.click()  # opens the group
            page.wait_for_timeout(2500)
            page.get_by_text("study_is_broken").last.click()
            page.wait_for_timeout(2500)
            save(page, "broken_study", width=1500)


def report_pictures(browser_page: Callable[..., Page]) -> None:
    """The pages of the demos; those that nobody has written yet are named, with the command that does."""
    page = browser_page(1280, 1000)
    for picture, (place, command) in PAGES.items():
        if not (file := ROOT / "studies" / place).is_file():
            print(f"{picture}.png: left as it is; {file} is not there: {command}")
            continue
        page.goto(file.as_uri())
        page.wait_for_timeout(500)
        save(page, picture)


def main(what: str = "ui") -> None:
    """Write the pictures of the UI, of a broken study, or of the reports."""
    sys.path.insert(0, str(ROOT))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)

        def browser_page(width: int, height: int, scale: float = 1) -> Page:
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=scale)
            page.set_default_timeout(60_000)
            return page

        {"ui": ui_pictures, "broken": broken_picture, "reports": report_pictures}[what](browser_page)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:2])
