"""How a store is found by its settings."""

from __future__ import annotations

import builtins
import importlib
import importlib.metadata
from unittest import mock

import pytest

from taskflowx import exceptions
from taskflowx.persistence import backends, base
from taskflowx.persistence.backends import impl_dir, impl_memory
from tests.support import drivers


class Own(base.Backend):
    """A store of somebody else."""

    def __init__(self, conf, extra=None):
        super().__init__(conf)
        self.extra = extra
        self.told = self._conf  # as a store reads its settings
        self.closed = False
        self.connection = mock.Mock()

    def get_connection(self):
        return self.connection

    def close(self):
        self.closed = True


class EntryPoint:
    """What an installed package registers."""

    name = "own"

    def load(self):
        return Own


@pytest.fixture
def registered(monkeypatch):
    """Let a package register a store."""
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda group: [EntryPoint()] if group == "taskflowx.persistence" else []
    )


@pytest.mark.parametrize(
    "conf",
    ["memory", "memory:", "memory://", "memory:///x", "Memory", {"connection": "memory"}, {"connection": "memory:"}],
)
def test_memory_is_found_by_its_names(conf):
    assert type(backends.fetch(conf)) is impl_memory.MemoryBackend


@pytest.mark.parametrize(
    "conf",
    [
        "dir:///some/where",
        "file:///some/where",
        "dir:/some/where",
        "dir:///some/wh%65re",
        "dir:?path=/some/where",
        {"connection": "dir", "path": "/some/where"},
        {"connection": "file:///other", "path": "/some/where"},
        {"connection": "dir:///some/where", "path": None},
    ],
)
def test_a_folder_is_named_in_the_address_or_beside_it(conf):
    made = backends.fetch(conf)
    assert type(made) is impl_dir.DirBackend
    assert made.path == "/some/where"


@pytest.mark.parametrize("conf", ["dir", "file:", {"connection": "dir"}, {"connection": "dir", "path": ""}])
def test_a_folder_needs_a_path(conf):
    with pytest.raises(ValueError, match=r"^Empty path is disallowed"):
        backends.fetch(conf)


def test_an_address_adds_to_the_settings(registered):
    conf = {"connection": "own://user:word@host:12/path?a=1&b=two&connection=x", "b": "mine"}
    made = backends.fetch(conf)
    assert made.told == {
        **conf,
        "username": "user",
        "password": "word",
        "hostname": "host:12",
        "port": 12,
        "a": "1",
    }
    assert set(conf) == {"connection", "b"}


def test_an_address_that_is_no_url_is_left_to_the_store(registered):
    assert backends.fetch("own://host:port[x").told == {"connection": "own://host:port[x"}


def test_registered_stores_are_found(registered):
    made = backends.fetch("own+driver://x", extra=1)
    assert (type(made), made.extra) == (Own, 1)


def test_ours_are_found_without_a_look_at_what_is_registered(monkeypatch):
    def look(**kwargs):
        raise AssertionError("looked")

    monkeypatch.setattr(importlib.metadata, "entry_points", look)
    assert type(backends.fetch("memory")) is impl_memory.MemoryBackend


def test_taskflows_namespace_is_ours():
    assert type(backends.fetch("memory", namespace="taskflow.persistence")) is impl_memory.MemoryBackend


@pytest.mark.parametrize(("conf", "name"), [("nope", "nope"), ("nope://x", "nope"), ({"connection": " nope:"}, "nope")])
def test_an_unknown_store_is_refused_with_the_known_ones(registered, conf, name):
    with pytest.raises(exceptions.NotFound) as caught:
        backends.fetch(conf)
    first, second = str(caught.value).splitlines()
    assert first == f"Could not find backend {name}: No 'taskflowx.persistence' driver found, looking for '{name}'"
    assert all(repr(known) in second for known in ("memory", "dir", "file", "sqlite", "mysql", "zookeeper", "own"))


def test_another_namespace_has_other_stores(registered):
    with pytest.raises(
        exceptions.NotFound, match=r"^Could not find backend memory: No 'other' driver found.*\n.* \[\]$"
    ):
        backends.fetch("memory", namespace="other")


@pytest.mark.parametrize("conf", [None, 3, ["memory"], Own])
def test_what_describes_no_store_is_refused(conf):
    with pytest.raises(TypeError, match="by a dict or by its connection string, not by"):
        backends.fetch(conf)


@pytest.mark.parametrize("conf", ["", {}, {"connection": None}, {"connection": 3}, {"path": "/x"}])
def test_settings_need_a_connection(conf):
    with pytest.raises(ValueError, match=r"^The settings of a store need 'connection'"):
        backends.fetch(conf)


@pytest.mark.parametrize(
    ("conf", "library", "extra"),
    [
        ("sqlite://", "sqlalchemy", "sqlalchemy"),
        ("mysql+pymysql://h/d", "sqlalchemy", "sqlalchemy"),
        ("postgresql://h/d", "sqlalchemy", "sqlalchemy"),
        ("zookeeper://h", "kazoo", "zookeeper"),
    ],
)
def test_a_missing_driver_is_named_with_what_installs_it(monkeypatch, conf, library, extra):
    def missing(name):
        raise ModuleNotFoundError(f"No module named '{library}'", name=library)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(exceptions.NotFound) as caught:
        backends.fetch(conf)
    assert f"it needs {library}" in str(caught.value)
    assert f'pip install "taskflowx[{extra}]"' in str(caught.value)
    assert isinstance(caught.value.cause, ModuleNotFoundError)


def test_a_store_that_cannot_be_made_ready_is_closed(registered, monkeypatch):
    made = Own({"connection": "own"})
    made.connection.upgrade.side_effect = exceptions.StorageFailure("disk full")
    monkeypatch.setattr(backends, "fetch", lambda *args, **kwargs: made)
    with pytest.raises(exceptions.StorageFailure), backends.backend("own"):
        pass
    assert made.closed
    made.connection.close.assert_called_once_with()


def test_a_fault_of_ours_is_not_taken_for_a_missing_driver(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError("No module named 'taskflowx.x'", name="taskflowx.x")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(ModuleNotFoundError, match=r"taskflowx\.x"):
        backends.fetch("sqlite://")


def test_a_store_is_ready_in_its_block_and_closed_at_the_end(registered):
    with backends.backend("own", extra=2) as made:
        assert (made.extra, made.closed) == (2, False)
        assert made.connection.mock_calls == [mock.call.upgrade(), mock.call.close()]
    assert made.closed
    with pytest.raises(builtins.ZeroDivisionError), backends.backend({"connection": "own"}) as made:
        raise ZeroDivisionError
    assert made.closed


@pytest.mark.parametrize("wrong", ["memory", 3, [1]])
def test_a_store_is_set_by_a_dict(wrong):
    with pytest.raises(TypeError, match=r"^Configuration dictionary expected not '"):
        impl_memory.MemoryBackend(wrong)


def test_what_is_registered_as_ours_is_what_is_fetched():
    import tomllib
    from pathlib import Path

    groups = tomllib.loads(Path("pyproject.toml").read_text())["project"]["entry-points"]
    named = {name: value.replace(":", ".").split(".")[-2:] for name, value in groups["taskflowx.persistence"].items()}
    assert named == {name: list(entry[:2]) for name, entry in backends._BACKENDS.items() if name != "mariadb"}
    for name, value in groups["taskflowx.engines"].items():
        module, _, cls = value.partition(":")
        from taskflowx import engines
        from taskflowx.patterns import linear_flow

        made = engines.load(linear_flow.Flow("empty"), engine=name)
        assert type(made) is getattr(importlib.import_module(module), cls)


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["dir", "file"])
@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("://~/runs", "{home}/runs"),
        (":~/runs", "{home}/runs"),
        ("://./runs", "{here}/runs"),
        ("://../runs", "{above}/runs"),
        ("://runs/of today", "{here}/runs/of today"),
        (":runs", "{here}/runs"),
        (":///a#b/c", "/a#b/c"),
        (":///a%23b", "/a#b"),
        (":///a%3Fb%25", "/a?b%"),
        (":///100%/x", "/100%/x"),
        (":///a b/ü", "/a b/ü"),
        (":///a;b&c=d,e@f:1", "/a;b&c=d,e@f:1"),
        (":///a#b?sync=false", "/a#b"),
        (":///a/../b/", "/b"),
    ],
)
def test_a_folder_is_where_its_address_says(monkeypatch, tmp_path, scheme, address, path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    made = backends.fetch(scheme + address)
    monkeypatch.chdir(tmp_path)  # it is where it was when it was fetched
    assert made.path == path.format(home=tmp_path / "home", here=tmp_path / "here", above=tmp_path)
    assert made.sync == ("sync=false" not in address)


def test_files_of_the_local_host_are_named_as_in_any_address_of_files():
    assert backends.fetch("file://localhost/a/b").path == "/a/b"


@pytest.mark.parametrize(
    ("conf", "says"),
    [
        ("dir://~nobody-has-this-name/x", "begins with a home folder that is not known"),
        ("dir:///a\0b", "NUL"),
        ("dir:///a?b/runs", "has 'b/runs' after '\\?', which is no setting.*(?s:.)*Write a '\\?' in a path as %3F"),
        (
            "dir:///a?snyc=false",
            "has 'snyc' after '\\?', which is no setting of it; it has encoding, max_cache_size, path, sync",
        ),
        ("dir:///a?sync=maybe", "The setting 'sync' must be a bool"),
        ("dir:///a?encoding=nope", "There is no encoding 'nope'"),
        ("memory://?deep=false", "has 'deep' after '\\?'"),
        ({"connection": "memory", "deep_copy": "nearly"}, "The setting 'deep_copy' must be a bool"),
        ("zookeeper://h:1?hots=i:2", "has 'hots' after '\\?'"),
    ],
    ids=str,
)
def test_an_address_that_cannot_be_meant_is_refused(conf, says):
    with pytest.raises(ValueError, match=says):
        backends.fetch(conf)


def test_the_error_about_a_setting_shows_no_password():
    with pytest.raises(ValueError, match="The address of the store 'zookeeper' has 'hots'") as caught:
        backends.fetch("zookeeper://user:secret@h:1?hots=i:2")
    assert "secret" not in str(caught.value)


def test_settings_after_the_path_are_taken_and_the_dict_goes_before_them():
    assert backends.fetch("dir:///a?sync=false&encoding=utf-16").encoding == "utf-16"
    made = backends.fetch({"connection": "dir:///a?sync=false&path=%2Fb%20c", "sync": True})
    assert (made.path, made.sync) == ("/b c", True)
    assert backends.fetch("memory://?deep_copy=false").deep_copy is False


@pytest.mark.parametrize(
    ("scheme", "address", "known"),
    [
        ("memory", "memory", "path"),
        ("dir", "dir", "path"),
        ("zookeeper", "zookeeper", "path"),
        ("sqlite", "sqlite://", "max_retries"),
        ("sqlite", "sqlite+pysqlite:////x/y?timeout=3&max_retries=4", "engine_args"),
        ("postgresql", "postgresql://me:word@h:1/d?sslmode=disable", "read_timeout"),
        ("mysql", "mysql+pymysql://me@h/d?charset=utf8mb4", "mysql_sql_mode"),
        ("mariadb", "mariadb://me@h/d", "connect_timeout"),
    ],
)
def test_a_setting_that_a_store_does_not_know_is_named(caplog, scheme, address, known):
    if scheme == "postgresql":
        pytest.importorskip("psycopg")
    conf = {"connection": address, known: {"engine_args": {}, "path": "/x"}.get(known, "1"), "lok": True}
    backends.fetch(conf)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    text = record.getMessage()
    assert text.startswith(f"The store '{scheme}' has no setting 'lok', it is ignored; it has ")
    assert known in text.partition("; it has ")[2].split(", ")
    caplog.clear()
    del conf["lok"]
    backends.fetch(conf)
    assert caplog.text == ""


def test_what_others_know_is_not_checked(registered, caplog):
    assert backends.fetch("own://h?anything=1").told["anything"] == "1"
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("conf", "hosts", "path"),
    [
        ("zookeeper://h1:1,h2:2/runs", [("h1", 1), ("h2", 2)], "/runs"),
        ("zookeeper://h1:1,h2:2,h3", [("h1", 1), ("h2", 2), ("h3", 2181)], "/taskflow"),
        ("zookeeper://h1,h2:2/a/b?timeout=3", [("h1", 2181), ("h2", 2)], "/a/b"),
        ("zookeeper://me:word@h1:1,h2:2/a#b", [("h1", 1), ("h2", 2)], "/a#b"),
        ("zookeeper://[::1]:1,[::2]:2/a%20b", [("::1", 1), ("::2", 2)], "/a b"),
        ("zookeeper:///runs", [("localhost", 2181)], "/runs"),
        ("zookeeper:///", [("localhost", 2181)], "/taskflow"),
        ({"connection": "zookeeper", "hosts": "h:1,i:2/base"}, [("h", 1), ("i", 2)], "/base/taskflow"),
        ({"connection": "zookeeper", "hosts": ["h:1", "/base"], "path": "/runs"}, [("h", 1)], "/base/runs"),
    ],
    ids=str,
)
def test_the_servers_of_zookeeper_are_those_of_the_address(conf, hosts, path):
    made = backends.fetch(conf)
    assert (drivers.client_of(made).hosts, made.path) == (hosts, path)


def test_credentials_and_acls_of_zookeeper_are_given_to_its_client():
    made = drivers.client_of(backends.fetch("zookeeper://me:w%20rd@h:1/runs?default_acl=creator"))
    assert made.auth_data == {("digest", "me:w rd")}
    assert made.default_acl[0].id.scheme == "auth"
    made = backends.fetch({"connection": "zookeeper://h:1", "auth_data": [("digest", "a:b"), ("x", "y")]})
    assert drivers.client_of(made).auth_data == {("digest", "a:b"), ("x", "y")}


@pytest.mark.parametrize("hosts", ["h:port", "h:99999999", ":1", ""])
def test_servers_of_zookeeper_that_cannot_be_meant_are_refused(hosts):
    with pytest.raises(ValueError, match="Cannot tell which servers of ZooKeeper"):
        backends.fetch({"connection": "zookeeper", "hosts": f"{hosts},i:2"})
