"""The expected expositions that stand beside the recordings; `python -m tests.golden` writes them anew for review."""

from pathlib import Path

from exporter.collectors import patroni_node, staytus_services
from tests.recorded import RECORDINGS, exposition, moment, samples, staytus

#: Moments that differ in what a node says of itself, with one of every role and of most states.
NODES = (
    ("1.6.5", "healthy-async", "n1"),
    ("1.6.5", "creating-replica", "n3"),
    ("2.0.2", "timezone", "n1"),
    ("2.0.2", "healthy-async", "n2"),
    ("2.1.7", "timeline-null", "n2"),
    ("2.1.7", "paused", "n1"),
    ("3.3.11", "pending-restart", "n2"),
    ("3.3.11", "standby-cluster", "n1"),
    ("3.3.11", "dcs-down-failsafe", "n1"),
    ("4.0.11", "quorum", "n2"),
    ("4.0.11", "replay-paused", "n2"),
    ("4.1.5", "healthy-async", "n1"),
    ("4.1.5", "healthy-async", "n2"),
    ("4.1.5", "tags", "n2"),
    ("4.1.5", "sync-2", "n2"),
    ("4.1.5", "start-failed", "n2"),
    ("4.1.5", "not-streaming", "n2"),
)


def expected() -> dict[Path, str]:
    """Every file of expected exposition with what the code makes of the recordings now."""
    nodes = {
        f"{version} {state} {node}": samples(
            "patroni", (patroni_node.COLLECTOR, moment(version, state, node).answers["/patroni"])
        )
        for version, state, node in NODES
    }
    services = {
        name: samples("staytus", (staytus_services.COLLECTOR, staytus(name)))
        for name in (
            "services_all_empty",
            "services_all_ok_minor_major_maintenance",
            "services_all_duplicate_permalink",
            "services_all_status_null",
            "services_all_unknown_status_type",
        )
    }
    node = moment("4.1.5", "healthy-async", "n1").answers
    return {
        RECORDINGS / "patroni" / "nodes.prom": _sections(nodes),
        RECORDINGS / "staytus" / "services.prom": _sections(services),
        RECORDINGS / "patroni" / "exposition.prom": exposition("patroni", (patroni_node.COLLECTOR, node["/patroni"])),
        RECORDINGS / "staytus" / "exposition.prom": exposition(
            "staytus", (staytus_services.COLLECTOR, staytus("services_all_ok_minor_major_maintenance"))
        ),
    }


def _sections(texts: dict[str, str]) -> str:
    return "\n".join(f"# {name}\n{text}" for name, text in texts.items())


if __name__ == "__main__":
    for path, text in expected().items():
        path.write_text(text)
