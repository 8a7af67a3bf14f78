"""The reference pages and the command-line help match the code, and the generated files are up to date."""

import os
import re
from pathlib import Path

import pytest

from exporter import reference
from exporter.__main__ import main
from exporter.config.options import OPTIONS
from exporter.config.settings import Settings
from exporter.web.self_metrics import OWN_FAMILIES
from monitoring.reference import alerts
from tests.config.test_settings import KEYS, patroni, settings, staytus
from tests.live.processes import ROOT
from tests.recorded import FAMILIES

PAGES = [("metrics", "METRICS.md"), ("env", ".env.sample"), ("settings", "docs/settings.md")]


@pytest.mark.parametrize(("topic", "file"), PAGES)
def test_generated_page_is_up_to_date(topic: str, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reference", topic]) == 0
    _, _, between = (text := (ROOT / file).read_text()).partition("<!-- settings -->\n")
    assert (between.partition("<!-- /settings -->\n")[0] or text).strip() == capsys.readouterr().out.strip()


def test_table_of_alerts_is_up_to_date() -> None:
    assert f"<!-- alerts -->\n{alerts()}<!-- /alerts -->\n" in (ROOT / "docs" / "alerts.md").read_text()


def rows(page: str) -> list[str]:
    """The first cells of all rows of the tables of a page."""
    return re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)


def test_secret_settings_have_a_file() -> None:
    variables = re.findall(r"\(or `(\w+)_FILE`, a file that holds it\)", reference.settings())
    assert variables == [option.variable for option in OPTIONS if option.secret]


def test_every_family_and_setting_has_one_row() -> None:
    names = rows(reference.metrics())
    assert (names, len(names)) == ([family.name for family in (*FAMILIES, *OWN_FAMILIES)], len(set(names)))
    assert rows(reference.settings()) == [option.variable for option in OPTIONS]


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
