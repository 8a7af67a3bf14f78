"""The servers of a cluster: installs them, starts and stops their processes, and removes their files."""

from __future__ import annotations

import atexit
import contextlib
import json
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from demo import DemoError
from demo.install import Programs, install
from demo.node import HOST, Config, Node, Passwords, Ports, dynamic_config, merge, node_config, raft_config
from demo.processes import FOLDER_VARIABLE, Account, descendants, end_all, postmaster, send
from demo.watch import Watch


class Servers:
    """The Patroni and PostgreSQL processes of a data folder."""

    def __init__(
        self,
        version: str = "4.1.5",
        nodes: int = 3,
        scope: str = "demo",
        dynamic: Config | None = None,
        node_config: Mapping[str, Config] | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Describe the cluster; `launch` starts it.

        `dynamic` is merged into `bootstrap.dcs`, `node_config[NAME]` into the configuration of that node (for example
        `{"n2": {"tags": {"nofailover": True}}}`), `node_config["*"]` into that of each node; None removes a key.
        `say` is called with one line for each slow step.
        """
        self.version, self.scope = version, scope
        self.nodes: tuple[Node, ...] = ()
        self._count, self._say = nodes, say
        self._dynamic, self._node_config = dynamic or {}, node_config or {}
        self._passwords, self._ports = Passwords(), Ports()
        self._patroni: dict[str, subprocess.Popen[Any]] = {}
        self._folder: Path | None = None
        self._programs: Programs | None = None
        self._account: Account | None = None
        self._watch: Watch | None = None

    @property
    def account(self) -> Account:
        """The user that the servers run as."""
        self._account = self._account or Account.current()
        return self._account

    @property
    def programs(self) -> Programs:
        """The programs, which are installed if they are missing."""
        self._programs = self._programs or install(self.version, self.account, self._say)
        return self._programs

    @property
    def folder(self) -> Path:
        """The data folder with all files of the servers; it exists from start to stop."""
        if self._folder is None:
            raise DemoError("the cluster is not running")
        return self._folder

    @property
    def environ(self) -> dict[str, str]:
        """The environment for other processes that must end with the cluster."""
        return {FOLDER_VARIABLE: str(self.folder)}

    def launch(self) -> None:
        """Install what is missing, choose ports and start Patroni on every node; does not wait until healthy."""
        if self._folder is not None:
            raise DemoError("the cluster is running already")
        cache = self.programs.cache
        self._say(f"starting Patroni {self.version} on {self._count} node{'s' * (self._count > 1)}")
        atexit.register(self.stop)
        self._folder = self._make_folder()
        self._watch = Watch(self.folder, cache)
        # Of two raft nodes, the one whose address is greater as text connects. If the other does not listen yet, it
        # retries only after 5 s (pysyncobj, transport.py). So start them in this order, each when the last one listens.
        raft_ports = sorted((self._ports.reserve() for _ in range(self._count)), key=str)
        self.nodes = tuple(
            Node(f"n{i}", self.folder / f"n{i}", self._ports.reserve(), self._ports.reserve(), raft_port)
            for i, raft_port in enumerate(raft_ports, 1)
        )
        for node in self.nodes:
            node.folder.mkdir(0o700)
            self.account.own(node.folder)
            self._write(node.file, self._config(node))
        self._write(self.folder / "patronictl.yml", self._ctl_config())
        for node in self.nodes:
            self.start_node(node)
            self._wait_for_raft(node)

    def stop(self) -> None:
        """Stop all processes, remove the data folder and release the ports; does nothing if already stopped."""
        atexit.unregister(self.stop)
        if self._folder is not None:
            end_all(self._folder, self.programs.cache)
        for process in self._patroni.values():
            process.wait()
        if self._watch is not None:
            self._watch.close()
        self._ports.release()
        self._patroni, self._folder, self._watch, self._ports = {}, None, None, Ports()

    def start_node(self, node: Node) -> None:
        """Start Patroni on a node; Patroni starts PostgreSQL unless it is running already."""
        if self.runs(node):
            raise DemoError(f"{node.name} is running already")
        env = {
            **self.environ, "PATH": f"{self.programs.pg_bin}:/usr/local/bin:/usr/bin:/bin", "HOME": str(self.folder),
            "LANG": "C.UTF-8", "TZ": "UTC", "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.folder),
        }  # fmt: skip
        argv = [str(self.programs.python), "-m", "patroni", str(node.file)]
        with node.log.open("ab") as log:
            options = {"stdout": log, "stderr": subprocess.STDOUT}
            self._patroni[node.name] = self.account.popen(argv, cwd=self.folder, env=env, **options)

    def runs(self, node: Node) -> bool:
        """Whether the Patroni process of this node is alive."""
        process = self._patroni.get(node.name)
        return process is not None and process.poll() is None

    def pid(self, node: Node) -> int:
        """The process id of the Patroni of this node."""
        return self._patroni[node.name].pid

    def kill_patroni(self, node: Node) -> None:
        """SIGKILL Patroni; PostgreSQL keeps running."""
        process = self._patroni[node.name]
        process.kill()
        process.wait()

    def kill_node(self, node: Node) -> None:
        """SIGKILL Patroni and PostgreSQL, as if the machine had crashed."""
        self.kill_patroni(node)
        with contextlib.suppress(DemoError):
            send(self._postgres(node), signal.SIGKILL)

    def freeze_postgres(self, node: Node) -> None:
        """SIGSTOP PostgreSQL and all its backends: clients can connect, but get no response."""
        send(self._postgres(node)[:1], signal.SIGSTOP)
        send(self._postgres(node), signal.SIGSTOP)

    def thaw_postgres(self, node: Node) -> None:
        """Undo `freeze_postgres`."""
        send(self._postgres(node), signal.SIGCONT)

    def postmaster(self, node: Node) -> int | None:
        """The process id of the PostgreSQL server of this node; None if it is not running."""
        return postmaster(node.data, self.programs.cache)

    def _postgres(self, node: Node) -> list[int]:
        """The process ids of the server and its backends, the server first."""
        pid = self.postmaster(node)
        if pid is None:
            raise DemoError(f"PostgreSQL is not running on {node.name}")
        return [pid, *descendants(pid)]

    def _wait_for_raft(self, node: Node, seconds: float = 10) -> None:
        """Wait until raft listens on this node; `wait_healthy` reports it if it does not."""
        deadline = time.monotonic() + seconds
        while self.runs(node) and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((HOST, node.raft_port), 1):
                return
            time.sleep(0.05)

    def _make_folder(self) -> Path:
        """Create a folder that the account can write to; other users cannot use a TMPDIR below /root."""
        for above in dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")):
            folder = Path(tempfile.mkdtemp(prefix="patroni-demo-", dir=above))
            try:
                self.account.own(folder)
                if self.account.can("test", "-w", str(folder)):
                    return folder
            except BaseException:
                folder.rmdir()
                raise
            folder.rmdir()
        raise DemoError(f"{self.account.name} cannot write to a temporary folder (set TMPDIR to another folder)")

    def _config(self, node: Node) -> Config:
        dynamic = merge(dynamic_config(), self._dynamic)
        config = node_config(node, self.nodes, self.scope, self.programs.pg_bin, self._passwords, dynamic)
        for name in ("*", node.name):
            merge(config, self._node_config.get(name, {}))
        return config

    def _ctl_config(self) -> Config:
        """Configuration of patronictl, a raft member that is not a node."""
        raft = raft_config(None, self.nodes, self._passwords, self.folder)
        config = {**self._config(self.nodes[0]), "raft": raft}
        return {key: config[key] for key in ("scope", "namespace", "restapi", "raft", "postgresql")}

    def _write(self, file: Path, config: Config) -> None:
        file.touch(0o600)
        file.write_text(json.dumps(config, indent=1))  # JSON is YAML
        self.account.own(file)
