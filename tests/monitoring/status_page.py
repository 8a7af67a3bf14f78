"""A recorded Staytus as phases of `tests.monitoring.promtool.series`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.collectors import staytus_issues, staytus_services
from tests.collectors.test_patroni_node import read_samples
from tests.monitoring.promtool import Change, Pairs
from tests.recorded import exposition, staytus

TARGET = (("instance", "status:9877"), ("job", "staytus"))


@dataclass(frozen=True)
class Page:
    """A status page that stays as it is for some minutes; `status` is the one of all its services, if it is one."""

    minutes: float
    answers: bool = True
    status: str = ""
    frozen: bool = False
    changes: Mapping[str, Change] = field(default_factory=dict)

    def samples(self, probed: bool) -> dict[tuple[str, Pairs], float]:
        """The samples of the exporter beside it by family and labels."""
        found: dict[tuple[str, Pairs], float] = {("up", ()): 1.0, ("staytus_up", ()): float(self.answers)}
        if not probed:
            found["patroni_staytus_exporter_build_info", ()] = 1.0
        if self.answers:
            read = (
                (staytus_services.COLLECTOR, staytus("services_all_ok_minor_major_maintenance")),
                (staytus_issues.COLLECTOR, staytus("issues_all_four_states")),
            )
            found.update(read_samples(exposition("staytus", *read)))
            found["staytus_up", ()] = 1.0
        for (family, pairs), _ in found.items():
            if family == "service_status" and self.status:
                found[family, pairs] = float(dict(pairs)["service_status"] == self.status)
            if family == "staytus_open_issue_updated_timestamp_seconds":  # the clock of promtool begins in 1970
                found[family, pairs] = 0.0
        return {(family, tuple(sorted((*pairs, *TARGET)))): value for (family, pairs), value in found.items()}

    def ranks(self) -> dict[str, int]:
        """It has no nodes."""
        return {}
