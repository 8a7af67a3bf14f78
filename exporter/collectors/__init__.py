"""The collectors: one file per document, with its model, its parser and its metric families.

Imports no other package of the exporter, sends no requests and reads no settings.

COLLECTORS lists the collectors of each service in the order of the exposition. The first one of a service decides
whether the service is up.
"""

from exporter.collectors import (
    patroni_cluster,
    patroni_config,
    patroni_failsafe,
    patroni_history,
    patroni_node,
    staytus_issues,
    staytus_services,
)
from exporter.collectors.base import AnyCollector

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
