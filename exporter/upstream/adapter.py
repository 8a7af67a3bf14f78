"""Requests over the wire: libcurl's multi interface in one thread, which waits for all of them at once."""

import selectors
import socket
import threading
import time
import weakref
from collections import deque
from typing import Any

import pycurl

from exporter.upstream.target import Target
from exporter.upstream.transfer import Done, Request, not_sent

#: Connections that are kept after an answer.
KEPT = 256


class Transport:
    """Sends requests, any number at once; its thread starts with the first and ends when nobody has the transport."""

    def __init__(self) -> None:
        self._loop = _Loop()
        weakref.finalize(self, self._loop.end).atexit = False  # a daemon: the process does not wait for who hangs

    def send(self, target: Target, path: str, seconds: float, done: Done) -> None:
        """Asks for `path` below the target's URL. The server has the target's timeout to accept the connection, and
        `seconds` for all. Proxies, netrc, cookies and variables of the environment do not count, and a redirect is not
        followed. A kept connection that turns out to be stale is replaced unseen.

        Raises RuntimeError when the system has no thread for us.
        """
        try:
            request = Request(target, path, seconds, done)
        except (OSError, ValueError) as error:
            done(not_sent(error))
        else:
            self._loop.begin(request)


class _Loop:
    """The thread: it waits for all sockets at once and lets libcurl do what they are ready for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._new: deque[Request] = deque()
        self._thread: threading.Thread | None = None
        self._ended = False
        self._woken, self._wake = socket.socketpair()
        self._sockets = selectors.DefaultSelector()
        self._sockets.register(self._woken, selectors.EVENT_READ)
        self._watched: set[int] = set()
        self._until: float | None = None
        self._under_way: dict[pycurl.Curl, Request] = {}
        self._unused: list[pycurl.Curl] = []
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._wait)
        self._multi.setopt(pycurl.M_MAXCONNECTS, KEPT)

    def begin(self, request: Request) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():  # a fault of ours ended it
                thread = threading.Thread(target=self._run, name="fetch", daemon=True)
                thread.start()
                self._thread = thread
            self._new.append(request)
            if len(self._new) == 1:
                self._wake.send(b"w")

    def end(self) -> None:
        with self._lock:
            self._ended = True
            if self._thread is None:
                self._close()
            else:
                self._wake.send(b"e")

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        """libcurl says which socket it waits for, and for what."""
        if what != pycurl.POLL_REMOVE:
            (self._sockets.modify if descriptor in self._watched else self._sockets.register)(descriptor, _EVENTS[what])
            self._watched.add(descriptor)
        elif descriptor in self._watched:
            self._sockets.unregister(descriptor)
            self._watched.remove(descriptor)

    def _wait(self, milliseconds: int) -> None:
        """libcurl says when it wants to be called if no socket is ready before; -1 is never."""
        self._until = None if milliseconds < 0 else time.monotonic() + milliseconds / 1000

    def _run(self) -> None:
        while True:
            wait = None if self._until is None else max(0.0, self._until - time.monotonic())
            for key, events in self._sockets.select(wait):
                if key.fileobj is self._woken:
                    self._woken.recv(64)
                    if self._ended:
                        return self._close()
                    self._start()
                else:
                    action = (pycurl.CSELECT_IN if events & selectors.EVENT_READ else 0) | (
                        pycurl.CSELECT_OUT if events & selectors.EVENT_WRITE else 0
                    )
                    self._multi.socket_action(key.fd, action)
            if self._until is not None and self._until <= time.monotonic():
                self._until = None
                self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
            self._finish()

    def _start(self) -> None:
        with self._lock:
            new, self._new = self._new, deque()
        for request in new:
            curl = self._unused.pop() if self._unused else pycurl.Curl()
            try:
                request.set_up(curl)
                self._multi.add_handle(curl)
            except (ValueError, pycurl.error) as error:
                curl.reset()
                self._unused.append(curl)
                request.done(not_sent(error))
            else:
                self._under_way[curl] = request

    def _finish(self) -> None:
        more = len(self._under_way)
        while more:
            more, answered, failed = self._multi.info_read()
            for curl in answered:
                request = self._take(curl)
                answer = request.answer(curl)
                self._put_back(curl)
                request.done(answer)
            for curl, code, text in failed:
                request = self._take(curl)
                error = request.error(curl, code, text)
                self._put_back(curl)
                request.done(error)

    def _take(self, curl: pycurl.Curl) -> Request:
        self._multi.remove_handle(curl)
        return self._under_way.pop(curl)

    def _put_back(self, curl: pycurl.Curl) -> None:
        curl.reset()
        if len(self._unused) < 64:
            self._unused.append(curl)

    def _close(self) -> None:
        for curl in self._under_way:
            self._multi.remove_handle(curl)
        self._multi.close()
        for resource in (self._sockets, self._woken, self._wake):
            resource.close()


_EVENTS = {
    pycurl.POLL_IN: selectors.EVENT_READ,
    pycurl.POLL_OUT: selectors.EVENT_WRITE,
    pycurl.POLL_INOUT: selectors.EVENT_READ | selectors.EVENT_WRITE,
}
