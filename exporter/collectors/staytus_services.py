"""What Staytus says of its services: `GET /api/v1/services/all`."""

from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, info, stateset
from exporter.collectors.document import Answer, Fields, distinct
from exporter.collectors.staytus import envelope

# Model ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """The status that a service has: its type is one of four, its name and permalink are the site's own."""

    status_type: str
    permalink: str
    name: str


@dataclass(frozen=True)
class Service:
    """One service; its status is None when the site lost the row of it."""

    permalink: str
    name: str
    status: Status | None


@dataclass(frozen=True)
class Services:
    """The services, one for each permalink, and the permalinks of those that were passed over."""

    services: tuple[Service, ...]
    repeated: tuple[str, ...]


# parse ----------------------------------------------------------------------------------------------------------------


def parse(answer: Answer) -> Services:
    """Returns the services; of two with one permalink, which Staytus does not rule out, the first.

    Raises ParseError when Staytus refuses or the answer is not its list of services.
    """
    return Services(*distinct(map(_service, envelope(answer)), lambda service: service.permalink))


def _service(item: Fields) -> Service:
    status = item.fields("status")
    return Service(
        permalink=item.required_text("permalink"),
        name=item.text("name") or "",
        status=None if status is None else _status(status),
    )


def _status(row: Fields) -> Status:
    return Status(
        status_type=row.required_text("status_type"),
        permalink=row.text("permalink") or "",
        name=row.text("name") or "",
    )


# FAMILIES -------------------------------------------------------------------------------------------------------------

FAMILIES: tuple[Family[Services], ...] = (
    stateset(
        "service_status",
        "1 for the type of status that the service has, 0 for the others; absent when it has no status.",
        ("service_permalink", "service_status"),
        ("ok", "minor", "major", "maintenance"),
        lambda model: [
            (service.permalink, service.status.status_type) for service in model.services if service.status is not None
        ],
    ),
    info(
        "staytus_service_info",
        "1, with the service's name and the permalink and name of its status; those of no status are empty.",
        ("service_permalink", "name", "status", "status_name"),
        lambda model: [
            (service.permalink, service.name, service.status.permalink, service.status.name)
            if service.status
            else (service.permalink, service.name, "", "")
            for service in model.services
        ],
    ),
)

# COLLECTOR ------------------------------------------------------------------------------------------------------------

COLLECTOR = Collector(
    "services",
    "api/v1/services/all",
    parse,
    FAMILIES,
    remarks=lambda model: [f"a second service with the permalink {permalink!r}" for permalink in model.repeated],
)
