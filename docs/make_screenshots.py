"""Take the pictures in docs/ again: the report from disk, the lineage and a contact sheet from a running `make ui`.

Run `make ui` in another terminal, then `.venv/bin/python docs/make_screenshots.py`.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from playwright.sync_api import Page, TimeoutError, sync_playwright

DOCS = Path(__file__).parent
REPORTS = DOCS.parent / "studies" / "avatars" / "results" / "reports"
UI = "http://127.0.0.1:3000"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip


def open_ui(page: Page, path: str) -> None:
    """Open a page of the Dagster UI, put its welcome away, and wait until the page has settled."""
    page.goto(UI + path)
    page.wait_for_load_state("networkidle")
    with contextlib.suppress(TimeoutError):  # it is shown once only
        page.get_by_role("button", name="Skip", exact=True).click(timeout=8000)
    page.wait_for_timeout(3000)


def lineage(page: Page) -> None:
    """The whole graph, every group open: both classifiers side by side, meeting in the comparison."""
    open_ui(page, "/asset-groups")
    page.mouse.move(1200, 700)
    page.keyboard.press("Alt+e")  # expand all groups
    page.wait_for_timeout(3500)
    page.screenshot(path=DOCS / "lineage.png")


def main() -> None:
    """Write report.png, comparison.png, lineage.png and contact_sheet.png."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        for name, picture in (("persona_v1", "report"), ("comparison", "comparison")):
            page.goto((REPORTS / name / "index.html").as_uri())
            page.wait_for_timeout(500)
            page.screenshot(path=DOCS / f"{picture}.png")
        page = browser.new_page(viewport={"width": 1900, "height": 1000})
        lineage(page)
        open_ui(page, "/assets/avatars/level1_edits?view=overview")
        page.get_by_text("[Show Markdown]").click()
        page.wait_for_timeout(1500)
        page.screenshot(path=DOCS / "contact_sheet.png")
        browser.close()


if __name__ == "__main__":
    main()
