"""/: the landing page, with the version, the modules and the way to everything else."""

import base64
import hashlib

from flask import Blueprint, render_template_string

from exporter.target import Module
from exporter.version import __version__
from exporter.web.door import PAGE_HEADERS

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Patroni and Staytus exporter</title>
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }
th, td { text-align: left; padding: 0 1rem .25rem 0 }
</style>
</head>
<body>
<h1>Patroni and Staytus exporter</h1>
<p>Version {{ version }}</p>
<table>
<thead><tr><th>Module</th><th>Asks</th></tr></thead>
<tbody>
{%- for module in modules %}
<tr><td>{{ module.name }}</td><td>{{ module.target.url }}</td></tr>
{%- endfor %}
</tbody>
</table>
<ul>
<li><a href="{{ request.script_root }}/metrics">Metrics</a></li>
<li><a href="{{ url_for('health.health') }}">Health of the modules</a></li>
<li><a href="{{ url_for('health.alive') }}">Health of this process</a></li>
</ul>
</body>
</html>
"""

#: The style above is all that the page may load.
STYLE = PAGE.partition("<style>")[2].partition("</style>")[0]
HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY = f"{PAGE_HEADERS['Content-Security-Policy']}; style-src 'sha256-{HASH}'"


def landing_blueprint(modules: tuple[Module, ...]) -> Blueprint:
    """Returns the door for people who open the address in a browser; it asks no module."""
    blueprint = Blueprint("landing", __name__)

    @blueprint.get("/")
    def landing() -> tuple[str, dict[str, str]]:
        return render_template_string(PAGE, version=__version__, modules=modules), {"Content-Security-Policy": POLICY}

    return blueprint
