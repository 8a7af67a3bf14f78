"""`python -m tests.screenshot` takes the picture of the landing page that the README shows, of a recorded cluster."""

import tempfile
from pathlib import Path

PICTURE = Path(__file__).parents[1] / "docs" / "landing.webp"


def main() -> None:
    """Writes the picture."""
    from tests.live.browser import browser
    from tests.live.test_landing import LAG, shown

    with tempfile.TemporaryDirectory() as folder, browser(Path(folder)) as page, shown(LAG) as url:
        page.look(url, width=720)
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_bytes(page.picture("webp"))


if __name__ == "__main__":
    main()
