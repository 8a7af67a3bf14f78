"""The demo: a real Patroni cluster, a fake Staytus and one exporter per node, all on loopback."""


class DemoError(Exception):
    """The demo failed; the text is shown to the user."""
