"""`python -m tests.site FOLDER` builds the documentation site with zensical: docs/, README.md and the pages beside it.

The pages link to each other and to files of the repository as on GitHub. In the site, these links lead to the pages of
the site, and to a copy of the file.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

#: The pages outside docs/.
PAGES = {
    "README.md": "index.md",
    "METRICS.md": "metrics.md",
    "RUNBOOK.md": "runbook.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security-policy.md",
    "bench/README.md": "benchmark.md",
    "tests/recordings/README.md": "recordings.md",
}

#: A numbered list. Its text is indented by four spaces for Python-Markdown, where GitHub requires three.
LIST = re.compile(r"(?m)^\d+\. .*(?:\n(?: {3}.*)?)+")

#: A link or image in Markdown, and text that can look like one.
LINK = re.compile(r"(?ms)^```.*?^```$|`[^`\n]+`|(?<=\]\()(?P<path>[^)\s#:]+)(?P<anchor>#[^)\s]*)?(?=\))")


def page(file: str) -> str:
    """Returns the page of a file: one of PAGES, one of docs/, or a copy of the file."""
    return PAGES.get(file) or (
        file.removeprefix("docs/") if file.startswith("docs/") else f"files/{file.lstrip('.')}.md"
    )


class Source:
    """The Markdown files of the site."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._written: set[str] = set()

    def write(self, file: str) -> None:
        """Writes the page of a file or folder of the repository, and those that it links to."""
        if file in self._written:
            return
        self._written.add(file)
        path, target = ROOT / file, self.folder / page(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            files = sorted(entry for entry in path.iterdir() if not entry.name.startswith("__"))
            rows = "".join(f"- [{entry.name}]({entry.name})\n" for entry in files)
            target.write_text(_header(file) + self._linked(rows, file, path))
        elif path.suffix == ".md":
            text = LIST.sub(lambda found: found[0].replace("\n   ", "\n    "), path.read_text())
            target.write_text(self._linked(text, file, path.parent))
        elif target.suffix in (".webp", ".svg"):
            shutil.copy(path, target)
        else:
            target.write_text(f"{_header(file)}````{path.suffix[1:]}\n{path.read_text()}````\n")

    def _linked(self, text: str, file: str, folder: Path) -> str:
        """Returns the text of the page with links to pages of the site, which are written too."""

        def link(found: re.Match[str]) -> str:
            if not found["path"]:
                return found[0]
            linked = os.path.relpath(folder / found["path"], ROOT)
            self.write(linked)
            return os.path.relpath(page(linked), Path(page(file)).parent) + (found["anchor"] or "")

        return LINK.sub(link, text)


def _header(file: str) -> str:
    return f"---\nsearch:\n  exclude: true\n---\n\n# {file}\n\n"


def build(folder: Path) -> str:
    """Builds the site in a folder and returns the output of zensical; exits with it if there is a warning."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Source(Path(temporary, "docs"))
        for file in (*PAGES, *(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md"))):
            source.write(file)
        shutil.copy(ROOT / "zensical.toml", temporary)
        shutil.copy(ROOT / "docs" / "site.css", source.folder)
        command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
        environ = {**os.environ, "NO_COLOR": "1"}
        done = subprocess.run(command, cwd=temporary, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            sys.exit(done.stdout.decode())
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(Path(temporary, "site"), folder)
    return done.stdout.decode()


if __name__ == "__main__":
    sys.stdout.write(build(Path(sys.argv[1])))
