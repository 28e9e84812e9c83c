"""Debian's Chromium, driven by playwright."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

from tests.support.require import require

CHROMIUM = shutil.which("chromium") or ""


@contextmanager
def chromium(*names: str) -> Iterator[Browser]:
    """A browser for which these host names lead to this device, and no other exists."""
    require(bool(CHROMIUM), "chromium")
    rules = ",".join([*(f"MAP {name} 127.0.0.1" for name in names), "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"])
    # Chromium would protect the device from pages of the internet by itself; other browsers do not.
    features = "LocalNetworkAccessChecks,BlockInsecurePrivateNetworkRequests"
    arguments = ["--no-sandbox", f"--host-resolver-rules={rules}", f"--disable-features={features}"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        try:
            yield browser
        finally:
            browser.close()
