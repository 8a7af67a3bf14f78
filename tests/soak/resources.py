"""What the workers of an exporter hold, and what it logs."""

import os
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporter.web.memory import TRIM
from tests.limits.scrapes import descriptors
from tests.live.processes import MODULE, Served
from tests.soak.scrapes import TIMEOUT, get, samples

#: `python -m exporter` with shorter ABANDON_AFTER and IDLE. On SIGPROF it prints how many blocks of memory Python has
#: allocated: the resident memory also depends on fragmentation.
ABANDON_AFTER = 5
COMMAND = (
    MODULE[0],
    "-c",
    f"""
import exporter.upstream.client, exporter.web.threads, exporter.__main__ as command, gc, signal, sys
exporter.upstream.client.ABANDON_AFTER = exporter.web.threads.IDLE = {ABANDON_AFTER}.0
signal.signal(signal.SIGPROF, lambda *_: (gc.collect(), print("BLOCKS", sys.getallocatedblocks(), flush=True)))
sys.exit(command.main())
""",
)

MIB = 1024 * 1024

#: The families that change while nothing happens.
CHANGING = ("python_", "process_", "patroni_staytus_exporter_")


@dataclass(frozen=True)
class Held:
    """The resources of all workers, with resident memory in MiB, and the samples of healthy upstreams."""

    threads: int
    descriptors: int
    blocks: int
    resident: float
    in_flight: float
    samples: dict[str, Any]

    def __str__(self) -> str:
        return (
            f"{self.threads} threads, {self.descriptors} descriptors, {self.blocks} blocks, {self.resident:.1f} MiB, "
            f"{self.in_flight:.0f} requests in flight"
        )


def settled(exporter: Served, port: int) -> Held:
    """Measures when hung requests have been abandoned and threads have ended."""
    workers = exporter.workers()
    time.sleep(ABANDON_AFTER + 2 * TIMEOUT + 2)
    for _ in range(40):
        status, text = get(port, "/metrics")
    scraped = samples(text)
    stable = {k: v for k, v in scraped.items() if not k.startswith(CHANGING) and "_duration_" not in k}
    time.sleep(TRIM + 2)  # freed memory has been returned
    for worker in workers:
        os.kill(worker, signal.SIGPROF)
        time.sleep(1)
    blocks = [int(line.split()[1]) for line in exporter.log.read_text().splitlines() if line.startswith("BLOCKS ")]
    return Held(
        threads=sum(len(list(Path(f"/proc/{worker}/task").iterdir())) for worker in workers),
        descriptors=sum(descriptors(worker) for worker in workers),
        blocks=sum(blocks[-len(workers) :]),
        resident=resident(exporter),
        in_flight=sum(scraped["patroni_staytus_exporter_requests_in_flight"].values()),
        samples={**stable, "status": status},
    )


def resident(exporter: Served) -> float:
    """The resident memory of all workers in MiB, without what they share with files."""
    statm = [Path(f"/proc/{worker}/statm").read_text().split() for worker in exporter.workers()]
    return sum(int(pages[1]) - int(pages[2]) for pages in statm) * os.sysconf("SC_PAGE_SIZE") / MIB


def lines_per_minute(log: list[str]) -> Counter[str]:
    """The number of lines in each minute that has lines."""
    return Counter(line[5:21] for line in log if line.startswith("time="))
