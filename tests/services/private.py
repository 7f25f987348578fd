"""Servers of a test's own, which it may stop and start again, and a pooler before one; all on this machine."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from typing import Any

PATIENCE = 60  # seconds for a server to answer


def program(name: str) -> str | None:
    """Return the path of a program of Debian's packages, if it is there."""
    folders = [os.environ.get("PATH", ""), "/usr/sbin"]
    path = os.pathsep.join([*folders, *sorted(map(str, pathlib.Path("/usr/lib/postgresql").glob("*/bin")))])
    return shutil.which(name, path=path)


def lacks(*names: str) -> str | None:
    """Say which programs are missing, or return None.

    :raises AssertionError: when one is, and there must be none
    """
    missing = [name for name in names if program(name) is None]
    if not missing:
        return None
    reason = f"no {' and no '.join(missing)} here: tests/services/start --install installs what tests need"
    if os.environ.get("TASKFLOWX_REQUIRE_SERVICES") == "1":
        raise AssertionError(f"{reason}, and TASKFLOWX_REQUIRE_SERVICES=1 says that it has to be there")
    return reason


class Program:
    """A program that listens on a port, and keeps its data in a folder that goes with it.

    :param user: who runs it when the tests are run by root
    """

    def __init__(self, user: str) -> None:
        # Not below the folder of a test, into which another user does not come.
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="taskflowx-private-"))
        self.user = user if os.getuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._command: tuple[str, ...] = ()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, name: str, *arguments: str) -> None:
        """Run another program to its end."""
        with (self.folder / "log").open("ab") as log:
            command = [program(name), *arguments]
            subprocess.run(command, check=True, stdout=log, stderr=log, cwd=self.folder, user=self.user)

    def start(self, *command: str) -> None:
        """Start it, with the same command as before if none is given, and wait until it listens."""
        self._command = command or self._command
        name, *arguments = self._command
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program(name), *arguments], stdout=log, stderr=log, cwd=self.folder, user=self.user
            )
        ends = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            assert self._process.poll() is None, (self.folder / "log").read_text(errors="replace")[-2000:]
            assert time.monotonic() < ends, f"{name} does not listen"
            threading.Event().wait(0.05)

    def stop(self, number: int = signal.SIGQUIT) -> None:
        """End it with a signal, at once by default, and wait for its end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE)
            self._process = None

    def close(self) -> None:
        """End it, and remove its folder."""
        if self._process is not None:
            self.stop(signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def postgresql() -> Any:
    """Give a PostgreSQL of one's own, as a `Program` with an `address`."""
    with contextlib.closing(Program("postgres")) as server:
        data = str(server.folder / "data")
        server.run("initdb", "-D", data, "-A", "trust", "-U", "test", "-E", "UTF8", "--no-sync")
        settings = ("-c", "fsync=off", "-c", f"unix_socket_directories={server.folder}")
        server.start("postgres", "-D", data, "-h", "127.0.0.1", "-p", str(server.port), *settings)
        server.address = f"postgresql://test@127.0.0.1:{server.port}/postgres"  # type: ignore[attr-defined]
        _until(
            functools.partial(
                server.run,
                "psql",
                "-h",
                str(server.folder),
                "-p",
                str(server.port),
                "-U",
                "test",
                "-c",
                "SELECT 1",
                "postgres",
            )
        )
        yield server


@contextlib.contextmanager
def mariadb() -> Any:
    """Give a MariaDB of one's own, as a `Program` with an `address`."""
    with contextlib.closing(Program("mysql")) as server:
        data, own = f"--datadir={server.folder / 'data'}", f"--socket={server.folder / 'socket'}"
        server.run("mariadb-install-db", "--no-defaults", data, "--auth-root-authentication-method=normal")
        server.start("mariadbd", "--no-defaults", data, own, "--bind-address=127.0.0.1", f"--port={server.port}")
        server.address = f"mysql+pymysql://root@127.0.0.1:{server.port}/test"  # type: ignore[attr-defined]
        create = "--execute=CREATE DATABASE IF NOT EXISTS test"
        _until(functools.partial(server.run, "mariadb", "--no-defaults", own, "--user=root", create))
        yield server


def _until(call: Any) -> None:
    """Call something until it does not fail: a server listens a moment before it answers."""
    ends = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except subprocess.CalledProcessError:
            if time.monotonic() > ends:
                raise
            threading.Event().wait(0.05)


#: kind of the server -> what makes one, and the programs that this takes
SERVERS = {
    "postgresql": (postgresql, ("initdb", "postgres", "psql")),
    "mariadb": (mariadb, ("mariadbd", "mariadb-install-db", "mariadb")),
}


@contextlib.contextmanager
def pgbouncer(address: str) -> Any:
    """Give the address of a database behind a PgBouncer that changes the connection with each transaction."""
    import sqlalchemy as sa

    url = sa.make_url(address)
    with contextlib.closing(Program("nobody")) as server:
        lines = [
            "[databases]",
            f"* = host={url.host} port={url.port or 5432} user={url.username}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {server.port}",
            "unix_socket_dir =",
            "auth_type = any",
            "pool_mode = transaction",
            "default_pool_size = 2",
        ]
        settings = server.folder / "pgbouncer.ini"
        settings.write_text("\n".join([*lines, ""]))
        server.start("pgbouncer", "-q", str(settings))
        yield url.set(port=server.port).render_as_string(hide_password=False)
