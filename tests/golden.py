"""The expected expositions of the recordings; `python -m tests.golden` writes them again for review."""

from pathlib import Path

from exporter.collectors import COLLECTORS, patroni_node, staytus_issues, staytus_services
from exporter.collectors.document import NotSupported, ParseError
from tests.recorded import RECORDINGS, VERSIONS, exposition, moment, moments, samples, staytus

#: Recordings of /patroni that differ, with every role and most states.
NODES = (
    ("1.6.5", "healthy-async", "n1"), ("1.6.5", "creating-replica", "n3"), ("2.0.2", "timezone", "n1"),
    ("2.0.2", "healthy-async", "n2"), ("2.1.7", "timeline-null", "n2"), ("2.1.7", "paused", "n1"),
    ("3.3.11", "pending-restart", "n2"), ("3.3.11", "standby-cluster", "n1"), ("3.3.11", "dcs-down-failsafe", "n1"),
    ("4.0.11", "quorum", "n2"), ("4.0.11", "replay-paused", "n2"), ("4.1.5", "healthy-async", "n1"),
    ("4.1.5", "healthy-async", "n2"), ("4.1.5", "tags", "n2"), ("4.1.5", "sync-2", "n2"),
    ("4.1.5", "start-failed", "n2"), ("4.1.5", "not-streaming", "n2"),
)  # fmt: skip


def expected() -> dict[Path, str]:
    """The files of expected expositions with the expositions of the current code."""
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
    leader = moment("4.1.5", "failsafe-enabled", "n1").answers
    return {
        RECORDINGS / "patroni" / "nodes.prom": _sections(nodes),
        RECORDINGS / "staytus" / "services.prom": _sections(services),
        RECORDINGS / "patroni" / "exposition.prom": exposition(
            "patroni", *((collector, leader[f"/{collector.path}"]) for collector in COLLECTORS["patroni"])
        ),
        RECORDINGS / "staytus" / "exposition.prom": exposition(
            "staytus",
            (staytus_services.COLLECTOR, staytus("services_all_ok_minor_major_maintenance")),
            (staytus_issues.COLLECTOR, staytus("issues_all_four_states")),
        ),
        **{RECORDINGS / "patroni" / f"{version}.prom": _clusters(version) for version in VERSIONS},
    }


def _clusters(version: str) -> str:
    """The samples of /cluster, /history, /config and /failsafe in every recording, identical ones once."""
    when: dict[str, list[str]] = {}
    for collector in COLLECTORS["patroni"][1:]:
        for recorded in moments(version):
            answer = recorded.answers.get(f"/{collector.path}")
            node = recorded.answers.get("/patroni")
            if answer is None:
                continue
            names = tuple(family.name for family in collector.families)
            try:
                read = [(collector, answer)] if node is None else [(patroni_node.COLLECTOR, node), (collector, answer)]
                lines = samples("patroni", *read).splitlines(keepends=True)
                text = "".join(line for line in lines if line.split("{")[0] in names)
            except NotSupported:
                continue
            except ParseError as error:
                text = f"# {type(error).__name__}: {error}\n"
            when.setdefault(f"# /{collector.path}\n{text}", []).append(f"{recorded.state} {recorded.node}")
    return "\n".join(f"# {', '.join(moments)}\n{text}" for text, moments in when.items())


def _sections(texts: dict[str, str]) -> str:
    return "\n".join(f"# {name}\n{text}" for name, text in texts.items())


if __name__ == "__main__":
    for path, text in expected().items():
        path.write_text(text)
