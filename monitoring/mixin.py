"""`python -m monitoring.mixin` renders the rules of the mixin, for Prometheus and for the Prometheus Operator."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import _gojsonnet  # type: ignore[import-not-found]
import yaml

FOLDER = Path(__file__).parent

#: The rendered files and the groups in each.
FILES: Mapping[str, tuple[str, ...]] = {
    "rules/views.yml": ("memory", "views"),
    "rules/patroni-cluster.yml": ("cluster",),
    "rules/patroni-members.yml": ("members",),
    "rules/exporter.yml": ("exporter",),
    "rules/staytus.yml": ("staytus",),
}
RULE = "operator/prometheusrule.yaml"

HEADER = "# Rendered from monitoring/mixin.libsonnet by `make rules`. Change its _config and not this file.\n"


class _Dumper(yaml.CSafeDumper):
    """Writes expressions of several lines as literal blocks."""


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def evaluate(expression: str, config: str = "{}") -> Any:
    """Returns a jsonnet expression of `mixin` as JSON; `config` is jsonnet too and is added to `_config`."""
    snippet = f"local mixin = (import 'mixin.libsonnet') + {{ _config+:: {config} }}; {expression}"
    return json.loads(_gojsonnet.evaluate_snippet(str(FOLDER / "snippet"), snippet))


def render(config: str = "{}") -> dict[str, str]:
    """Returns the rendered files by their paths below monitoring."""
    mixin = evaluate("{ rule: mixin.prometheusRule, names: mixin._config.groupNames }", config)
    groups = {group["name"]: group for group in mixin["rule"]["spec"]["groups"]}
    files = {file: {"groups": [groups[mixin["names"][key]] for key in keys]} for file, keys in FILES.items()}
    return {file: _yaml(content) for file, content in {**files, RULE: mixin["rule"]}.items()}


def _yaml(content: Any) -> str:
    return HEADER + yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def main() -> None:
    """Writes all files."""
    for file, text in render().items():
        (FOLDER / file).parent.mkdir(exist_ok=True)
        (FOLDER / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
