"""The benchmark: prints its results in Markdown, for the README. Without a part, it runs all of them.

python -m bench [--quick] [--showmax CHECKOUT] [--gopaytech PROGRAM] [PART ...]
"""

import argparse
import inspect
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.fleet import fleet
from bench.parts import PEERS, QUICK, Bench, Size
from bench.processes import BenchError
from bench.report import environment

#: The headings of the parts.
PARTS: dict[str, tuple[str, Callable[[Bench], str]]] = {
    "throughput": ("Throughput", Bench.throughput),
    "latency": ("Added latency", Bench.latency),
    "cpu": ("CPU time", Bench.cpu),
    "memory": ("Memory", Bench.memory),
    "start": ("Start", Bench.start),
    "requests": ("Upstream requests", Bench.requests),
    "fleet": ("Fleet", fleet),
}


def main() -> int:
    """Runs the selected parts; returns 1 if a response was not the expected one, except in the part fleet."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small counts, to test the benchmark itself")
    parser.add_argument("--showmax", type=Path, metavar="CHECKOUT", help="measure Showmax's exporter too")
    parser.add_argument("--gopaytech", type=Path, metavar="PROGRAM", help="measure gopaytech's exporter too")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART", help=f"{', '.join(PARTS)}")
    arguments = parser.parse_args()
    peers = {name: path for name in PEERS if (path := getattr(arguments, name))}
    bench = Bench(QUICK if arguments.quick else Size(), peers)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.stdout.write(environment())
    try:
        for name in arguments.parts or PARTS:
            heading, part = PARTS[name]
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}\n")
            sys.stdout.write(f"\n### {heading}\n\n{inspect.getdoc(part)}\n\n{part(bench)}")
            sys.stdout.flush()
    except (BenchError, OSError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    failed = bench.failed.total()
    sys.stdout.write(f"\n{failed:,} of {bench.responses + failed:,} responses failed, without those of the fleet.\n")
    sys.stderr.writelines(f"bench: {count} x {reason}\n" for reason, count in bench.failed.items())
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
