"""Chromium without a window, spoken to over a pipe in its DevTools protocol, which needs no driver."""

import base64
import contextlib
import fcntl
import json
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.live.installed import path_of
from tests.live.processes import start

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Page:
    """One page of the browser; `told` is what came to its console and what it could not load or run."""

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers = commands, answers
        self._buffer, self._number, self._session = b"", 0, ""
        self._loaded = False
        self.told: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def look(self, url: str, *, width: int = 375, height: int = 800, dark: bool = False, scripts: bool = False) -> None:
        """Opens the URL in a window of this width and height in CSS pixels and waits until it is there."""
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.told.clear()
        self._loaded = False
        error = self.call("Page.navigate", url=url).get("errorText")
        assert not error, f"{url}: {error}"
        while not self._loaded:
            self._next(time.monotonic() + 20)

    def press(self, selector: str) -> None:
        """Clicks on the first element of the CSS selector and waits for the page that it leads to."""
        self._loaded = False
        self.call("Runtime.evaluate", expression=f"document.querySelector({selector!r}).click()", userGesture=True)
        while not self._loaded:
            self._next(time.monotonic() + 20)

    def value(self, expression: str) -> Any:
        """The value of an expression in JavaScript, which runs beside the page and not in it."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, format: str = "png") -> bytes:
        """The whole page as PNG, or as WebP where that is small enough for it."""
        quality = {} if format == "png" else {"quality": 80}
        taken = self.call("Page.captureScreenshot", captureBeyondViewport=True, format=format, **quality)
        return base64.b64decode(taken["data"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Calls a method of the protocol and returns its result."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 30
        while (answer := self._next(deadline)).get("id") != self._number:
            pass
        assert "error" not in answer, f"{method}: {answer}"
        return dict(answer["result"])

    def _next(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "the browser has ended"
            self._buffer += chunk
        text, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Log.entryAdded":
                self.told.append(message["params"]["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.told.append(json.dumps(message["params"]))
        return message


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Page]:
    """Starts Chromium with a profile of its own in the folder, and ends it."""
    (from_us, commands), (answers, to_us) = os.pipe(), os.pipe()
    low = (from_us, to_us)
    from_us, to_us = (fcntl.fcntl(descriptor, fcntl.F_DUPFD, 10) for descriptor in low)  # not 3 or 4, which it wants
    line = ["bash", "-c", f'exec "$0" "$@" 3<&{from_us} 4>&{to_us}', path_of("chromium"), *FLAGS]
    with (folder / "chromium.log").open("wb") as log:
        process = start(
            [*line, f"--user-data-dir={folder}/profile"],
            log,
            cwd=folder,
            environ={"HOME": str(folder)},
            pass_fds=(from_us, to_us),
        )
    for descriptor in (*low, from_us, to_us):
        os.close(descriptor)
    try:
        yield Page(commands, answers)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        os.close(commands)
        os.close(answers)
