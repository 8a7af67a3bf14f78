"""The demo: a real Patroni cluster, a stand-in for Staytus and exporters beside them, on this machine alone."""


class DemoError(Exception):
    """What keeps the demo from going on, in words for the person in front of it."""
