"""Pictures of a page as a browser shows it, light and dark.

    sstoken audit docs/images/questions.jsonl --model SMOLLM2_135M_FOLDER --out DIR
    python docs/images/page.py DIR/index.html docs/images/audit

Needs Chromium with its driver, and selenium.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

WIDTH, HEIGHT = 960, 800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", help="beginning of the pictures' names")
    arguments = parser.parse_args()
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars"):
        options.add_argument(argument)
    browser = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        for theme in ("light", "dark"):
            size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
            browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            wanted = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
            browser.get(arguments.page.resolve().as_uri())
            browser.save_screenshot(f"{arguments.picture}-{theme}.png")
    finally:
        browser.quit()


if __name__ == "__main__":
    main()
