"""What goes to standard error: one line for each event, and a line that repeats once a minute."""

import logging
import threading

#: Seconds in which a line is said once.
PERIOD = 60.0


def log_to_standard_error(debug: bool) -> None:
    """Lets this package log to standard error, unless whoever hosts it has set up logging already."""
    log = logging.getLogger("exporter")
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    if not log.hasHandlers():
        to_stderr = logging.StreamHandler()
        to_stderr.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        to_stderr.addFilter(OncePerPeriod())
        log.addHandler(to_stderr)


class OncePerPeriod(logging.Filter):
    """Holds back a line that was said in the last minute, and tells with the next one how many were held back.

    Lines with a traceback are never held back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tells whether the record is to be said; appends the count to its message."""
        if record.exc_info:
            return True
        key = (record.name, record.getMessage())
        with self._lock:
            when, held = self._said.get(key, (-PERIOD, 0))
            if record.created - when < PERIOD:
                self._said[key] = (when, held + 1)
                return False
            self._said = {other: said for other, said in self._said.items() if record.created - said[0] < 2 * PERIOD}
            self._said[key] = (record.created, 0)
        if held:
            record.msg, record.args = f"{key[1]} ({held} times more since)", ()
        return True
