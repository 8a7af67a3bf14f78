"""The registration of all collectors: by service, in the order of the exposition; the first tells whether it is up."""

from exporter.collector import AnyCollector
from exporter.collectors import patroni_node, staytus_services

COLLECTORS: dict[str, tuple[AnyCollector, ...]] = {
    "patroni": (patroni_node.COLLECTOR,),
    "staytus": (staytus_services.COLLECTOR,),
}
