"""What each document of a service means: one file per document, with its model, its parser and its metric families.

May import no other package. Never sends a request, never reads a setting, and knows nothing of HTTP but a status code.

COLLECTORS lists all collectors by service, in the order of the exposition. The first one decides whether the service
is up.
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
