"""The nodes that a seed of a module names: one node, the addresses of a name, or the SRV records of a service."""


class SeedError(Exception):
    """A seed cannot be resolved; the text is one line."""


def resolve(seed: str, seconds: float) -> list[str]:
    """Returns the targets that a seed stands for, within `seconds`; raises SeedError."""
    raise NotImplementedError
