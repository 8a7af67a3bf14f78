"""The registration of all collectors: by service, in the order of the exposition; the first tells whether it is up."""

from exporter.collector import AnyCollector
from exporter.collectors import (
    patroni_cluster,
    patroni_config,
    patroni_failsafe,
    patroni_history,
    patroni_node,
    staytus_issues,
    staytus_services,
)

COLLECTORS: dict[str, tuple[AnyCollector, ...]] = {
    "patroni": (
        patroni_node.COLLECTOR,
        patroni_cluster.COLLECTOR,
        patroni_history.COLLECTOR,
        patroni_config.COLLECTOR,
        patroni_failsafe.COLLECTOR,
    ),
    "staytus": (staytus_services.COLLECTOR, staytus_issues.COLLECTOR),
}
