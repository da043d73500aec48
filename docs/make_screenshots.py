"""Take the pictures in docs/ again: the report from disk, the lineage and a contact sheet from a running `make ui`.

Run `make ui` in another terminal, then `.venv/bin/python docs/make_screenshots.py`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

DOCS = Path(__file__).parent
REPORTS = DOCS.parent / "studies" / "avatars" / "results" / "reports"
UI = "http://127.0.0.1:3000"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip


def open_ui(page: Page, path: str) -> None:
    """Open a page of the Dagster UI and wait until it has settled."""
    page.goto(UI + path)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(4000)
    for label in ("Skip", "Got it", "Dismiss", "Close"):
        for button in page.get_by_role("button", name=label, exact=True).all():
            if button.is_visible():
                button.click()


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
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        open_ui(page, "/asset-groups")
        page.screenshot(path=DOCS / "lineage.png")
        open_ui(page, "/assets/avatars/level1_edits?view=overview")
        page.screenshot(path=DOCS / "contact_sheet.png")
        browser.close()


if __name__ == "__main__":
    main()
