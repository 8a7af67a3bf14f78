"""The values of the exporter's counters."""

from prometheus_client import Counter


def counts(counter: Counter) -> dict[str, float]:
    """The values by reason, under "" without reasons."""
    (family,) = counter.collect()
    return {sample.labels.get("reason", ""): sample.value for sample in family.samples}
