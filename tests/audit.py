"""The audit: has a dependency that users install a known vulnerability, as far as a service can be asked from here?

    python -m tests.audit

The exit status is 1 when there is one, and 0 with one line when no service could be asked.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

REQUIREMENTS = Path(__file__).parent.parent / "requirements.txt"

#: What pip-audit can ask: Google's database, and PyPI itself, which mirrors of it leave out.
SERVICES = ("osv", "pypi")


def main(*arguments: str) -> int:
    """Asks one service after the other until one knows, and prints what it knows; pip-audit gets the arguments too."""
    for service in SERVICES:
        asked = ask("--vulnerability-service", service, *arguments)
        if known := [package for package in asked if "vulns" in package]:
            found = [(package, vulnerability) for package in known for vulnerability in package["vulns"]]
            for package, vulnerability in found:
                fixed = ", ".join(vulnerability["fix_versions"]) or "no version yet"
                print(f"audit: {package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
            unknown = f", {len(asked) - len(known)} are unknown to it" if len(known) < len(asked) else ""
            print(f"audit: {len(found)} known vulnerabilities in {len(known)} dependencies, says {service}{unknown}")
            return 1 if found else 0
    print(f"audit: not done, since neither {' nor '.join(SERVICES)} can be asked from here")
    return 0


def ask(*arguments: str) -> list[dict[str, Any]]:
    """Returns what pip-audit says of each dependency; one that could not be asked for has no `vulns`."""
    # Without strict it takes a mirror that knows nothing for a service that knows no vulnerability.
    command = ("--requirement", str(REQUIREMENTS), "--require-hashes", "--disable-pip", "--format", "json")
    options = ("--progress-spinner", "off", "--timeout", "15")
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *command, *options, *arguments], capture_output=True, check=False
    )
    try:
        return list(json.loads(done.stdout)["dependencies"])
    except ValueError:  # an error of the network, of which it tells in a traceback
        return []


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
