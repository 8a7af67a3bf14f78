"""The services of a Staytus site: `GET /api/v1/services/all`."""

from dataclasses import dataclass

from exporter.collectors.base import Collector, Family, Values, info, stateset
from exporter.collectors.document import Answer, Fields, distinct
from exporter.collectors.staytus import envelope

# Model


@dataclass(frozen=True)
class Status:
    """The status of a service; the type is one of four, the permalink and name are chosen by the site."""

    status_type: str
    permalink: str
    name: str


@dataclass(frozen=True)
class Service:
    """One service; its status is None if the site's database has lost it."""

    permalink: str
    name: str
    status: Status | None


@dataclass(frozen=True)
class Services:
    """The services, one for each permalink."""

    services: tuple[Service, ...]
    warnings: tuple[str, ...]


def parse(answer: Answer) -> Services:
    """Returns the services; of services with the same permalink, which Staytus allows, only the first.

    Raises ParseError if the response is not a list of services.
    """
    return Services(*distinct("service", map(_service, envelope(answer)), lambda service: service.permalink))


def _service(item: Fields) -> Service:
    status = item.fields("status")
    return Service(item.required_text("permalink"), item.text("name") or "", _status(status) if status else None)


def _status(row: Fields) -> Status:
    return Status(row.required_text("status_type"), row.text("permalink") or "", row.text("name") or "")


# Families


def _info(service: Service) -> Values:
    status = service.status or Status("", "", "")
    return (service.permalink, service.name, status.permalink, status.name)


FAMILIES: tuple[Family[Services], ...] = (
    stateset("service_status",
        "1 for the type of the service's status, 0 for the other types; absent if the service has no status.",
        ("service_permalink", "service_status"), ("ok", "minor", "major", "maintenance"),
        lambda model: [(each.permalink, each.status.status_type) for each in model.services if each.status]),
    info("staytus_service_info",
        "Name of the service, and permalink and name of its status, always 1; without a status these are empty.",
        ("service_permalink", "name", "status", "status_name"), lambda model: map(_info, model.services)),
)  # fmt: skip

COLLECTOR = Collector("services", "api/v1/services/all", parse, FAMILIES, warnings=lambda model: model.warnings)
