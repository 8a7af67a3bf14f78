"""The rate limit of the web configuration file."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from werkzeug.exceptions import TooManyRequests

from exporter.web.rate_limit import RateLimiter
from exporter.web.web_config import RateLimit
from tests.counted import counts
from tests.limits.scrapes import application
from tests.web_config import users, web_config


class Requests:
    """Requests to a limiter at times of a clock of its own."""

    def __init__(self, limit: RateLimit | None):
        self.limit = limit
        self.now = 1000.0
        self.limiter = RateLimiter(lambda: self.now)

    def at(self, seconds: float) -> object:
        """The Retry-After of a request so many seconds later, None for an allowed one."""
        self.now = 1000.0 + seconds
        try:
            self.limiter.acquire(self.limit)
        except TooManyRequests as error:
            return error.retry_after
        return None


def test_burst_then_one_per_interval() -> None:
    requests = Requests(RateLimit(interval=2, burst=3))
    assert [requests.at(0) for _ in range(5)] == [None, None, None, 2, 2]
    assert [requests.at(1), requests.at(2), requests.at(2), requests.at(3.5)] == [1, None, 2, 1]
    assert [requests.at(100) for _ in range(4)] == [None, None, None, 2]
    assert counts(requests.limiter.counter) == {"": 6}


def test_short_interval() -> None:
    requests = Requests(RateLimit(interval=1 / 1024, burst=1))
    assert [requests.at(n / 2048) for n in range(6)] == [None, 1, None, 1, None, 1]


def test_changed_limit() -> None:
    requests = Requests(RateLimit(interval=60, burst=1))
    assert [requests.at(0), requests.at(1)] == [None, 59]
    requests.limit = RateLimit(interval=60, burst=2)
    assert [requests.at(2) for _ in range(3)] == [None, None, 60]
    requests.limit = None
    assert [requests.at(3) for _ in range(100)] == [None] * 100


def test_threads() -> None:
    requests = Requests(RateLimit(interval=60, burst=500))
    with ThreadPoolExecutor(16) as pool:
        results = Counter(pool.map(lambda _: requests.at(0), range(2000)))
    assert (results, counts(requests.limiter.counter)) == ({None: 500, 60: 1500}, {"": 1500})


def test_response(tmp_path: Path) -> None:
    """A refused request gets 429 before its login is verified, with the headers of the file."""
    text = "rate_limit: {interval: 1m, burst: 2}\nhttp_server_config: {headers: {X-Frame-Options: deny}}\n"
    with_file = partial(application, "http://127.0.0.1:1", EXPORTER_WEB_CONFIG_FILE=web_config(tmp_path, text))
    client = with_file().test_client()
    assert [client.get(path).status_code for path in ("/-/healthy", "/-/ready", "/-/healthy")] == [200, 200, 429]
    open_health = with_file(EXPORTER_WEB_OPEN_HEALTH="true").test_client()
    paths = ("/", "/", "/", "/-/healthy", "/-/ready")
    assert [open_health.get(path).status_code for path in paths] == [200, 200, 429, 200, 200]
    response = client.get("/")
    assert (response.status_code, response.text) == (429, "more requests than the rate_limit of this server allows\n")
    assert 0 < int(response.headers.pop("Retry-After")) <= 60
    assert sorted(response.headers) == [
        ("Cache-Control", "no-store"),
        ("Content-Length", "56"),
        ("Content-Type", "text/plain; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "deny"),
    ]
    web_config(tmp_path, users(alice="s3cret"))
    assert client.get("/").status_code == 401
