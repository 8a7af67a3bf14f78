"""`python -m monitoring.reference` prints the table of alerts in docs/alerts.md, from the rules and the runbook."""

import re
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FILES = ("patroni-cluster", "patroni-members", "exporter", "staytus")


def alerts() -> str:
    """Returns a row for each alert: its severity, its `for`, and the first sentence of its section in the runbook."""
    meanings = dict(re.findall(r"(?ms)^### (\w+)\n\n\*\*\w+\*\* · (.*?[.:])(?=\s)", (ROOT / "RUNBOOK.md").read_text()))
    rows = ["| alert | severity | for | meaning |", "| --- | --- | --- | --- |"]
    for file in FILES:
        for group in yaml.safe_load((ROOT / "monitoring" / "rules" / f"{file}.yml").read_text())["groups"]:
            for rule in group["rules"]:
                name, severity = rule["alert"], rule["labels"]["severity"]
                meaning = " ".join(meanings[name].removesuffix(":").split())
                link = f"[{name}](../RUNBOOK.md#{name.lower()})"
                rows.append(f"| {link} | {severity} | {rule.get('for', '0m')} | {meaning.rstrip('.')}. |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.stdout.write(alerts())
