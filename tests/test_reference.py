"""The reference pages and the command-line help match the code, and the generated files are up to date."""

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from exporter import reference
from exporter.__main__ import main
from exporter.collectors import COLLECTORS
from exporter.config.options import OPTIONS
from exporter.config.settings import Settings
from exporter.scrape.families import SCRAPE_FAMILIES
from exporter.web.self_metrics import OWN_FAMILIES
from tests.config.test_settings import KEYS, patroni, settings, staytus

ROOT = Path(__file__).parent.parent


def printed(capsys: pytest.CaptureFixture[str], topic: str) -> str:
    """What the command prints."""
    assert main(["reference", topic]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("topic", "file"), [("metrics", "METRICS.md"), ("env", ".env.sample")])
def test_generated_file_is_up_to_date(topic: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (ROOT / file).read_text() == printed(capsys, topic)


def test_table_of_settings_is_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    (table,) = re.findall(
        r"^<!-- settings -->\n(.*?)^<!-- /settings -->$",
        (ROOT / "docs" / "settings.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert table.strip() == printed(capsys, "settings").strip()


def cells(table: str) -> list[list[str]]:
    """The cells of all rows of the tables of a page, without the headers."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| `")]
    assert len({len(row) for row in rows}) == 1
    return rows


def test_settings_have_arguments_and_defaults() -> None:
    assert [row[:3] for row in cells(reference.settings())] == [
        [
            f"`{option.variable}`",
            ", ".join(f"`{flag}`" for flag in option.flags),
            {None: "required" if option.required else "", "": "empty"}.get(option.default, f"`{option.default}`"),
        ]
        for option in OPTIONS
    ]


def test_secret_settings_have_a_file() -> None:
    variables = re.findall(r"\(or `(\w+)_FILE`, a file that holds it\)", reference.settings())
    assert variables == [option.variable for option in OPTIONS if option.secret]


def test_metrics_have_labels_and_help() -> None:
    families = [
        family
        for service, collectors in COLLECTORS.items()
        for family in [*(f for c in collectors for f in c.families), *SCRAPE_FAMILIES[service]]
    ]
    rows = cells(reference.metrics())
    assert [(row[0], row[1], row[-1]) for row in rows] == [
        (f"`{family.name}`", ", ".join(f"`{label}`" for label in (*family.common_labels, *family.labels)), family.help)
        for family in families
    ] + [(f"`{own.name}`", own.type, own.help) for own in OWN_FAMILIES]
    assert [name for name, count in Counter(row[0] for row in rows).items() if count > 1] == []


def test_env_sample_has_the_defaults(tmp_path: Path) -> None:
    sample, sets = tmp_path / "sample", re.compile(r"^#(?=[A-Z_]+=)", re.MULTILINE)
    sample.write_text(reference.env())
    assert Settings.load({"EXPORTER_ENV_FILE": str(sample)}) == Settings.load({"EXPORTER_ENV_FILE": os.devnull})
    sample.write_text(sets.sub("", reference.env()))
    assert Settings.load({**KEYS, "EXPORTER_ENV_FILE": str(sample)}) == settings(patroni(), staytus())
    assert sets.sub("", reference.env()).count("=") == len(OPTIONS)


def test_help_has_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    rows = [
        f"{option.flags[-1]}{'' if option.is_switch else ' ' + option.variable.rpartition('_')[2]} {option.meaning} "
        f"[{option.variable}, default: {option.default or 'empty'}]"
        for option in OPTIONS
        if option.flags
    ]
    assert (ended.value.code, [row for row in rows if row not in text]) == (0, [])
    assert [word for word in ("serve", "check", "scrape", "EXPORTER_ENV_FILE") if word not in text] == []
