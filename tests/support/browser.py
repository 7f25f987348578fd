"""A Chromium for tests; `make services ARGS="--install chromium"` installs it from Debian's packages."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sysconfig

import pytest

#: where it is, if it is not found by name
VARIABLE = "TASKFLOWX_CHROMIUM"
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def program():
    """Return the path of Chromium, None when there is none."""
    given = os.environ.get(VARIABLE)
    return given or next(filter(None, map(shutil.which, _NAMES)), None)


def lacks():
    """Say why tests have no browser, or return None.

    :raises AssertionError: when there is a reason, and there must be none
    """
    if importlib.util.find_spec("playwright") is None:
        reason = "playwright is not installed, which drives Chromium"
        if sysconfig.get_config_var("Py_GIL_DISABLED"):
            return reason  # there is none for it
    elif program() is None:
        reason = (
            f'no Chromium: make services ARGS="--install chromium" installs it, {VARIABLE} says where another one is'
        )
    else:
        return None
    if os.environ.get("TASKFLOWX_REQUIRE_SERVICES") == "1":
        raise AssertionError(f"{reason}, and TASKFLOWX_REQUIRE_SERVICES=1 says that it has to be there")
    return reason


@contextlib.contextmanager
def chromium():
    """Give a Chromium that runs until the end of the block; the test is skipped where there is none."""
    reason = lacks()
    if reason:
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox"] if os.getuid() == 0 else []  # root has no sandbox
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program(), args=flags)
        try:
            yield browser
        finally:
            browser.close()
