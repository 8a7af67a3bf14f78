"""`python -m tests.screenshot` writes the screenshot of the landing page that the README shows."""

import base64
from pathlib import Path

SCREENSHOT = Path(__file__).parents[1] / "docs" / "landing.webp"


def main() -> None:
    """Writes the card of Patroni as WebP, which Chromium supports and Playwright does not."""
    from tests.live.test_landing import chromium, serving
    from tests.web.page import LAG

    with chromium() as browser, serving(LAG) as url:
        page = browser.new_page(viewport={"width": 720, "height": 800})
        page.goto(url)
        patroni = page.locator("section").first.bounding_box()
        assert patroni is not None
        clip = {"x": 0, "y": 0, "width": 720, "height": patroni["y"] + patroni["height"] + 12, "scale": 1}
        options = {"format": "webp", "quality": 80, "captureBeyondViewport": True, "clip": clip}
        taken = page.context.new_cdp_session(page).send("Page.captureScreenshot", options)
    SCREENSHOT.parent.mkdir(exist_ok=True)
    SCREENSHOT.write_bytes(base64.b64decode(taken["data"]))


if __name__ == "__main__":
    main()
