"""What holds after every unit test: nothing of it is left."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _nothing_is_left(nothing_is_left):
    """See to it for each test here; a test of another folder that is held to it names the fixture."""
