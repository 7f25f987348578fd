"""What tests of users' programs have in common."""

import pytest

from tests.support import commands


@pytest.fixture
def shop(tmp_path):
    """A folder with the module `shop`, in which commands are run."""
    return commands.Folder(tmp_path)


@pytest.fixture
def inside(tmp_path, monkeypatch, capfd):
    """The same, where commands are run in this process."""
    return commands.Inside(tmp_path, monkeypatch, capfd)
