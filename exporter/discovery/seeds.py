"""The nodes that a seed of a module names: one node, the addresses of a name, or the targets of SRV records."""

import math
import re
import time
from typing import TYPE_CHECKING

from exporter.config.discovery import ADDRESSES, SERVICE

if TYPE_CHECKING:
    from dns.exception import DNSException
    from dns.resolver import Answer, Resolver


class SeedError(Exception):
    """A seed cannot be resolved; the text is one line."""


#: The targets of each seed, and until when they are valid, in Unix seconds.
_kept: dict[str, tuple[float, list[str]]] = {}


def resolve(seed: str, seconds: float, resolver: "Resolver | None" = None) -> list[str]:
    """Returns the targets that a seed stands for, within `seconds`; raises SeedError.

    The default resolver uses the name servers and the search list of /etc/resolv.conf, not /etc/hosts. The resolver of
    the C library has no total timeout, and does not report for how long an answer is valid.
    """
    if not seed.startswith((ADDRESSES, SERVICE)):
        return [seed]
    until, targets = _kept.get(seed, (0.0, []))
    if time.time() >= until:
        from dns.exception import DNSException  # 1.8 MiB in each process, so only where a name is looked up
        from dns.resolver import Resolver

        look_up = _services if seed.startswith(SERVICE) else _addresses
        try:
            until, targets = look_up(seed.partition("+")[2], resolver or Resolver(), time.monotonic() + seconds)
        except DNSException as error:
            raise SeedError(f"{seed}: {_reason(error, seconds)}") from None
        if not targets:
            raise SeedError(f"{seed}: the service is not available")
        _kept[seed] = until, targets
    return targets


def _services(name: str, resolver: "Resolver", end: float) -> tuple[float, list[str]]:
    """Returns the hosts and ports of SRV records (RFC 2782), of which `.` is no host."""
    answer = _query(name, "SRV", resolver, end)
    targets = {(str(record.target).rstrip("."), record.port) for record in answer}
    return answer.expiration, [f"{host}:{port}" for host, port in sorted(targets) if host]


def _addresses(text: str, resolver: "Resolver", end: float) -> tuple[float, list[str]]:
    """Returns the addresses of a name, each with the port of the text. Those of one family are enough."""
    from dns.exception import DNSException

    host, colon, port = text.partition(":")
    if text.startswith("[") or re.fullmatch(r"[\d.]+", host):
        return math.inf, [text]
    answers, failures = [], []
    for kind in ("A", "AAAA"):
        try:
            answers.append(_query(host, kind, resolver, end))
        except DNSException as error:
            failures.append(error)
    if not answers:
        raise failures[0]
    addresses = [
        address if ":" not in address else f"[{address}]"
        for answer in answers
        for address in sorted(record.address for record in answer)
    ]
    return min(answer.expiration for answer in answers), [address + colon + port for address in addresses]


def _query(name: str, kind: str, resolver: "Resolver", end: float) -> "Answer":
    return resolver.resolve(name, kind, lifetime=max(0.0, end - time.monotonic()), search=True)


def _reason(error: "DNSException", seconds: float) -> str:
    from dns.resolver import NXDOMAIN, LifetimeTimeout, NoAnswer

    texts = {
        NXDOMAIN: "the name does not exist",
        NoAnswer: "the name has no records of this kind",
        LifetimeTimeout: f"no answer of a name server within {seconds:g} s",
    }
    return texts.get(type(error)) or ascii(str(error))[1:-1][:300]
