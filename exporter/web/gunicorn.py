"""Changes to gunicorn: slow clients keep no thread, the log format, and a reload with wrong settings."""

import errno
import inspect
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import gunicorn
from gunicorn import glogging
from gunicorn.arbiter import Arbiter
from gunicorn.workers.gthread import PollableMethodQueue, TConn, ThreadWorker

from exporter.config.errors import ConfigError
from exporter.log import Event, Lines
from exporter.upstream.headers import Headers
from exporter.web.connections import THREAD, Connection, Exchange
from exporter.web.limit import closed_connections
from exporter.web.memory import TRIM, trim_memory
from exporter.web.threads import Threads

log = logging.getLogger(__name__)

#: Limit of the responses that clients have not received yet, in bytes for each process.
MAX_UNSENT = 32 * 1024 * 1024

#: Seconds between two checks for connections that exceeded a deadline.
CHECK = 0.25

#: The host has no more files or memory for a connection.
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Worker(ThreadWorker):
    """gunicorn's gthread worker, but a connection has a thread only while the application responds to a request.

    In gunicorn's, a thread waits until the request is complete and until the client has received the response, and no
    connection is accepted while `worker_connections` are open or while a client does not close its side of one.

    `error_headers` returns the headers of its responses to malformed requests.
    """

    error_headers: Callable[[], Headers] = staticmethod(tuple)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: The connections that wait for their clients, in the order in which they began to wait.
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._next_check = 0.0
        self._next_trim = time.monotonic() + TRIM

    def accept(self, listener: socket.socket) -> None:
        """Accepts a connection, and closes the oldest one at the limit, so that the next one can be accepted."""
        try:
            sock, client = listener.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                if not self._close_oldest():
                    time.sleep(0.01)  # the listener stays readable
            elif error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                raise
            return
        self.nr_conns += 1
        self._continue(Connection(self.cfg, sock, client, listener.getsockname()))
        if self.nr_conns >= self.worker_connections:
            self._close_oldest()

    def _continue(self, conn: Connection) -> None:
        """Runs the connection until it has to wait."""
        try:
            event = next(conn.steps)
        except (StopIteration, OSError):
            self._close(conn)
        except Exception:
            log.exception(Event("connection failed"))
            self._close(conn)
        else:
            if event == THREAD:
                self.enqueue_req(conn)
            else:
                self._waiting[conn] = None
                self.poller.register(conn.socket, event, partial(self._on_event, conn))

    def _on_event(self, conn: Connection, _: socket.socket) -> None:
        if conn in self._waiting:  # else it was closed since the event
            self._remove(conn)
            self._continue(conn)

    def _remove(self, conn: Connection) -> None:
        del self._waiting[conn]
        self.poller.unregister(conn.socket)

    def _close(self, conn: Connection, reason: str = "") -> None:
        if conn in self._waiting:
            self._remove(conn)
        conn.steps.close()
        conn.socket.close()
        self.nr_conns -= 1
        if reason:
            closed_connections().labels(reason).inc()

    def get_thread_pool(self) -> Threads:  # type: ignore[override]
        """Returns the threads for requests."""
        return Threads(self.cfg.threads)

    def enqueue_req(self, conn: Connection) -> None:  # type: ignore[override]
        """Passes the connection to a thread."""
        self.tpool.submit(self._respond, conn)

    def _respond(self, conn: Connection) -> None:
        """Runs in a thread; the connection continues in the main thread. Only the application can block here."""
        try:
            conn.respond(self.handle(conn))
        except BaseException:
            log.exception(Event("connection failed"))
            self.method_queue.defer(self._close, conn)
        else:
            self.method_queue.defer(self._finish, conn)

    def _finish(self, conn: Connection) -> None:
        self._continue(conn)
        if conn.unsent:
            self._limit_memory()

    def handle_request(self, req: Any, conn: Any) -> bool:
        """Lets the connection end with a request that has a body, since nothing reads the body."""
        if any(name in ("CONTENT-LENGTH", "TRANSFER-ENCODING") for name, _ in req.headers):
            req.force_close()
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: BaseException) -> None:
        """Responds with one plain sentence: the page of gunicorn repeats parts of the request."""
        super().handle_error(req, page := Exchange(), addr, exc)  # type: ignore[arg-type]
        status_line = b"".join(page.response).partition(b"\r\n")[0].decode("latin-1")
        reason = status_line.split(" ", 2)[2].lower()
        body = f"{reason}: the log of the exporter has the reason\n"
        head = f"{status_line}\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in self.error_headers())
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())

    def _limit_memory(self) -> None:
        unsent = {conn: len(conn.unsent) for conn in self._waiting if conn.unsent}
        while len(unsent) > 1 and sum(unsent.values()) > MAX_UNSENT:
            oldest = next(iter(unsent))
            del unsent[oldest]
            self._close(oldest, "memory")
            log.warning(Event("response closed", reason="too many bytes that clients have not received"))

    def _close_oldest(self) -> bool:
        """Closes the oldest connection, if possible one that receives no response; returns False if there is none."""
        oldest = next(iter(self._waiting), None)
        conn = next((conn for conn in self._waiting if not conn.unsent), oldest)
        if conn is None:
            return False
        self._close(conn, "connections")
        log.warning(Event("connection closed", reason="too many connections, this was the oldest"))
        return True

    def wait_for_and_dispatch_events(self, timeout: float) -> None:  # type: ignore[override]
        """Handles events, closes the connections that exceeded a deadline, and returns free memory."""
        super().wait_for_and_dispatch_events(min(timeout, CHECK) if self._waiting else timeout)
        now = time.monotonic()
        if now < self._next_check:
            return
        self._next_check = now + CHECK
        if now >= self._next_trim:
            self._next_trim = now + TRIM
            trim_memory()
        for conn in [conn for conn in self._waiting if conn.timeout <= now]:
            if conn.state in ("idle", "close"):
                self._close(conn)
            else:
                conn.log("connection closed", f"{conn.state} timeout")
                self._close(conn, conn.state)


#: What `Worker` and `keep_running_on_wrong_settings` override or replace, and what they call.
REQUIRED = {
    (ThreadWorker, "accept"): "(self, listener)",
    (ThreadWorker, "enqueue_req"): "(self, conn)",
    (ThreadWorker, "get_thread_pool"): "(self)",
    (ThreadWorker, "handle"): "(self, conn)",
    (ThreadWorker, "handle_error"): "(self, req, client, addr, exc)",
    (ThreadWorker, "handle_request"): "(self, req, conn)",
    (ThreadWorker, "wait_for_and_dispatch_events"): "(self, timeout)",
    (TConn, "init"): "(self)",
    (PollableMethodQueue, "defer"): "(self, callback, *args)",
    (Arbiter, "handle_hup"): "(self)",
}


def check_gunicorn() -> None:
    """Raises ConfigError when this gunicorn lacks a method in REQUIRED, or its parameters are different."""
    for (owner, name), expected in REQUIRED.items():
        method = getattr(owner, name, None)
        if method is None or str(inspect.signature(method)) != expected:
            raise ConfigError(
                f"gunicorn {gunicorn.__version__} has no {owner.__name__}.{name}{expected}: expected gunicorn 25 to 27"
            )


def keep_running_on_wrong_settings(arbiter: Arbiter, load: Callable[[], object]) -> None:
    """Ignores a SIGHUP when `load` raises ConfigError: gunicorn would end. It has no setting for that."""
    reload = arbiter.handle_hup

    def handle_hup() -> None:
        try:
            load()
        except ConfigError as error:
            logging.getLogger("gunicorn.error").error(Event("not reloaded", reason=str(error)))
        else:
            reload()

    arbiter.handle_hup = handle_hup  # type: ignore[method-assign]


class GunicornLogger(glogging.Logger):
    """gunicorn's log in the format of the exporter's. The access log is off: the middleware logs requests."""

    #: logfmt or json. gunicorn creates the only instance.
    form = "logfmt"

    def setup(self, cfg: Any) -> None:
        """Sets the format. gunicorn calls it at the start and at each reload."""
        super().setup(cfg)
        for handler in (*self.error_log.handlers, *self.access_log.handlers):
            if isinstance(handler, logging.StreamHandler):  # also a file; syslog has its own format
                handler.setFormatter(Lines(self.form))
