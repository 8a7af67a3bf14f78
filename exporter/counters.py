"""What the exporter counts about itself: metrics of prometheus_client, which several worker processes can share."""

from dataclasses import dataclass

from prometheus_client import Counter, Gauge, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Counted:
    """A family of the exporter with one sample for each reason, or one sample if there are no reasons."""

    name: str
    help: str
    reasons: tuple[str, ...] = ()
    type: str = "counter"

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels."""
        return ("reason",) if self.reasons else ()


REQUESTS_IN_FLIGHT = Counted(
    "patroni_staytus_exporter_requests_in_flight",
    "Requests to Patroni and Staytus that have not ended, also those that no scrape waits for any more.",
    type="gauge",
)
REQUESTS_REFUSED = Counted(
    "patroni_staytus_exporter_requests_refused_total",
    "Requests to Patroni and Staytus that were not sent because too many were in flight: to the same host and port "
    "(host), or in one process (total).",
    ("host", "total"),
)
REQUESTS_ABANDONED = Counted(
    "patroni_staytus_exporter_requests_abandoned_total",
    "Requests to Patroni and Staytus whose connection was closed because they were not answered within a minute.",
)
PROBES_REFUSED = Counted(
    "patroni_staytus_exporter_probes_refused_total",
    "Requests of /probe and /sd with status 503: EXPORTER_PROBES of them were being served (probes), too many "
    "requests to Patroni and Staytus were in flight (requests), or the CPU was overloaded (overload).",
    ("probes", "requests", "overload"),
)
CONNECTIONS_CLOSED = Counted(
    "patroni_staytus_exporter_connections_closed_total",
    "Connections of clients that gunicorn's worker closed: at the deadline of a TLS handshake, a request or a "
    "response, and the oldest one at the limit of connections or of memory for responses.",
    ("handshake", "request", "response", "connections", "memory"),
)
LOGINS_REFUSED = Counted(
    "patroni_staytus_exporter_logins_refused_total",
    "Requests without a login (missing), with a wrong one (wrong), and with one that was not verified because too "
    "many were waiting (busy); absent without a web configuration file.",
    ("missing", "wrong", "busy"),
)
REQUESTS_RATE_LIMITED = Counted("patroni_staytus_exporter_http_requests_rate_limited_total",
    "Requests refused by the rate_limit of the web configuration file; absent without this file.")  # fmt: skip

COUNTED = (
    REQUESTS_IN_FLIGHT,
    REQUESTS_REFUSED,
    REQUESTS_ABANDONED,
    PROBES_REFUSED,
    CONNECTIONS_CLOSED,
    LOGINS_REFUSED,
    REQUESTS_RATE_LIMITED,
)


def counter(family: Counted) -> Counter:
    """Returns a new counter of this process, 0 for each reason."""
    new = Counter(family.name, family.help, family.labels, registry=None)
    for reason in family.reasons:
        new.labels(reason)
    return new


def gauge(family: Counted) -> Gauge:
    """Returns a new gauge of this process. With several worker processes /metrics has the sum of those that run."""
    return Gauge(family.name, family.help, registry=None, multiprocess_mode="livesum")
