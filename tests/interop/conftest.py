"""The two packages, each in a process that the tests of a module share."""

from __future__ import annotations

import pytest

from tests.interop import sides


@pytest.fixture(scope="module")
def peers():
    """Give the side of OpenStack TaskFlow and that of this package."""
    sides.require_taskflow()
    both = sides.theirs(), sides.ours()
    yield both
    for side in both:
        side.close()


@pytest.fixture
def folder():
    """Give a new folder in which writing costs little."""
    with sides.quick_folder() as path:
        yield path
