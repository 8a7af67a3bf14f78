"""Processes that are forked from this one, as a server forks its workers."""

import multiprocessing
from collections.abc import Callable
from typing import Any

FORK = multiprocessing.get_context("fork")


def in_a_child(what: Callable[[], Any]) -> Any:
    """The result in a forked process; None if it fails or takes more than ten seconds."""
    receive, send = FORK.Pipe(duplex=False)
    child = FORK.Process(target=lambda: send.send(what()))
    child.start()
    send.close()
    try:
        return receive.recv() if receive.poll(10) else None
    except EOFError:
        return None
    finally:
        child.join(5)
        child.kill()
