"""What the settings of a SQL store and its address mean, and what is refused of them."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest

from taskflowx import engines, exceptions, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends
from taskflowx.persistence.backends import sql_files, sql_settings


def read(address, **conf):
    return sql_settings.read({"connection": address, **conf})


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2", "pymysql", "mysqldb", "unheard_of"])
def test_settings_in_an_address_are_ours_and_the_driver_does_not_get_them(driver):
    kind = "mysql" if "my" in driver else "postgresql"
    ours = "max_pool_size=3&max_retries=7&connect_timeout=2.5&read_timeout=0&checkout_ping=false&isolation_level=x"
    settings, url = read(f"{kind}+{driver}://h/d?{ours}")
    assert url.query == {}
    assert settings.number("max_pool_size", 0) == 3
    assert settings.number("max_retries", 0) == 7
    assert (settings.seconds("connect_timeout", 0), settings.seconds("read_timeout", 9)) == (2.5, 0)
    assert not settings.flag("checkout_ping")
    assert settings.get("isolation_level") == "x"


@pytest.mark.parametrize("value", ["often", "-1", "nan"])
def test_seconds_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="'read_timeout' must be a number of seconds, zero or more, not"):
        sql_settings.Settings({"read_timeout": value}).seconds("read_timeout", 1)


@pytest.mark.parametrize(
    ("address", "error", "says"),
    [
        (
            "postgresql+nosuch://me:secret@h/d",
            exceptions.NotFound,
            r"no driver 'nosuch', in the address 'postgresql\+no",
        ),
        ("mariadb://", ValueError, "names no database; say which one: mariadb://user@host/database"),
        ("mysql+pymysql://me:secret@h/", ValueError, "names no database"),
        ("mysql+pymysql://me:secret@h:port/d", ValueError, "'connection' must be an address"),
        ("sqlite:///~nobody-of-this-name/x.db", ValueError, "of a user that there is not"),
        ("sqlite://runs.db", ValueError, "is behind three, 'sqlite:///runs.db', or four"),
        ("sqlite://srv/runs.db", ValueError, "is behind three, 'sqlite:///srv/runs.db', or four"),
        ("sqlite+nosuch:///x", exceptions.NotFound, "no driver 'nosuch'"),
    ],
)
def test_an_address_that_leads_nowhere_is_refused_without_its_password(address, error, says):
    with pytest.raises(error, match=says) as raised:
        backends.fetch(address)
    assert "secret" not in str(raised.value)


def test_a_path_means_what_it_meant_when_the_store_was_made(tmp_path, monkeypatch):
    home, here, there = (tmp_path / name for name in ("home", "here", "there"))
    for folder in (home, here, there):
        folder.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    made = [backends.fetch(f"sqlite:///{path}") for path in ("runs.db", "~/runs.db", f"{tmp_path}/runs.db")]
    monkeypatch.chdir(there)
    for backend in made:
        with contextlib.closing(backend):
            backend.get_connection().upgrade()
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.db")) == [
        "here/runs.db",
        "home/runs.db",
        "runs.db",
    ]


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def opened(tmp_path):
    """Give a connection to a new database in a file, and its path."""
    path = tmp_path / "runs.db"
    with backends.backend(f"sqlite:///{path}") as backend:
        yield backend.get_connection(), path


def modes(folder):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in Path(folder).iterdir()}


@pytest.mark.parametrize("umask", [0, 0o022, 0o777])
@pytest.mark.skipif(os.name != "posix", reason="no modes of files on this system")
def test_nobody_else_may_read_the_files_of_a_database(tmp_path, umask):
    before = os.umask(umask)
    try:
        with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
            list(backend.get_connection().get_logbooks())
            assert modes(tmp_path) == dict.fromkeys(("runs.db", "runs.db-wal", "runs.db-shm"), 0o600)
    finally:
        os.umask(before)


@pytest.mark.skipif(os.name != "posix", reason="no modes of files on this system")
def test_a_file_that_was_there_keeps_its_mode(tmp_path):
    path = tmp_path / "runs.db"
    path.touch()
    path.chmod(0o640)
    with backends.backend(f"sqlite:///{path}"):
        assert modes(tmp_path)["runs.db"] == 0o640


def replace(path, other):
    """Put another database in the place of one, with all that is beside it."""
    for ending in ("", "-wal", "-shm"):
        Path(f"{path}{ending}").rename(f"{other}{ending}")


@pytest.mark.skipif(os.name != "posix", reason="a file that is open cannot be moved on this system")
@pytest.mark.parametrize("how", ["moved", "deleted", "replaced"])
def test_a_run_whose_database_is_taken_away_does_not_succeed(opened, monkeypatch, how):
    connection, path = opened

    class TakeAway(task.Task):
        def execute(self):
            replace(path, f"{path}.away")
            if how == "deleted":
                Path(f"{path}.away").unlink()
            if how == "replaced":
                with backends.backend(f"sqlite:///{path}"):
                    pass

    class After(task.Task):
        def execute(self):
            ran.append(self.name)

    monkeypatch.setattr(sql_files, "_GLANCE", 0)
    ran = []
    engine = engines.load(linear_flow.Flow("f").add(TakeAway("take"), After("after")), backend=connection.backend)
    problem = "has been replaced by another file" if how == "replaced" else "is not there any more"
    with pytest.raises(exceptions.StorageFailure, match=f"The database '{path}' {problem}"):
        engine.run()
    with pytest.raises(exceptions.StorageFailure, match=problem):
        connection.get_flow_details(engine.storage.flow_uuid)
    assert ran == []
    if how == "moved":
        replace(f"{path}.away", path)
        engine.run()  # it is back
        assert ran == ["after"]


@pytest.mark.skipif(os.name != "posix", reason="a file that is open cannot be moved on this system")
def test_a_run_that_is_so_short_that_nobody_looked_does_not_succeed_either(opened, monkeypatch):
    connection, path = opened

    class TakeAway(task.Task):
        def execute(self):
            replace(path, f"{path}.away")

    monkeypatch.setattr(sql_files, "_GLANCE", 1000)
    engine = engines.load(
        linear_flow.Flow("f").add(TakeAway("take"), task.FunctorTask(lambda: 1, name="after")),
        backend=connection.backend,
    )
    with pytest.raises(exceptions.StorageFailure, match="is not there any more"):
        engine.run()


def test_a_store_that_is_made_ready_again_takes_the_file_that_is_there(opened):
    connection, path = opened
    replace(path, f"{path}.away")
    with pytest.raises(exceptions.StorageFailure):
        list(connection.get_logbooks())
    connection.upgrade()
    assert list(connection.get_logbooks()) == []
    assert path.exists()
