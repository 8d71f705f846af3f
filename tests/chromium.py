"""Debian's Chromium for tests of pages; modules that import this skip without it.

Skipped only where there is no Chromium or no playwright; `.ci/run` has both.
"""

import os
import shutil

import pytest

CHROMIUM = shutil.which("chromium")
if not os.environ.get("COGJAX_BROWSER"):
    pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium on the PATH", allow_module_level=True)
from playwright.sync_api import expect, sync_playwright  # noqa: E402

__all__ = ["browser", "expect"]


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()
