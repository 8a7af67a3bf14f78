"""The resolver of the C library with additional names."""

import subprocess
from pathlib import Path

from tests.live.installed import path_of

SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    real = dlsym(RTLD_NEXT, "getaddrinfo");
    %s
    return real(node, service, hints, found);
}
"""


def resolver(folder: Path, names: str) -> dict[str, str]:
    """The environment of a process that runs these lines of C before it looks up a name (`node`)."""
    library = folder / "resolver.so"
    command = [path_of("gcc"), "-shared", "-fPIC", "-x", "c", "-o", str(library), "-", "-ldl"]
    subprocess.run(command, input=(SOURCE % names).encode(), check=True)
    return {"LD_PRELOAD": str(library)}
