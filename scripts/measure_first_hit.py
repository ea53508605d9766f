#!/usr/bin/env python3
"""Measure the seconds from ``scripts/demo --serve`` to the first hit that is seen in a browser.

    python scripts/measure_first_hit.py --repeat 3

Runs what ``scripts/demo`` runs once packages are installed, into an empty folder: photographs are
indexed, phrases answered, a page written, and the service started. Headless Chromium then opens the
address, clicks on the first phrase that it is offered, and waits until the photograph of the first
hit is decoded and its box is drawn. Chromium starts before the clock does: a browser is open
already. The port 8770 must be free.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from statistics import median

from playwright.sync_api import Browser, sync_playwright

SEEN = """() => {
    const card = document.querySelector(".grid > li");
    const image = card && card.querySelector("img");
    const box = card && card.querySelector("rect.box");
    return image && image.complete && image.naturalWidth > 0
        && box && box.getBoundingClientRect().width > 0;
}"""


def first_hit(browser: Browser) -> tuple[float, float]:
    """Return the seconds until the service says its address, and until a hit is seen."""
    with tempfile.TemporaryDirectory() as output:
        command = [sys.executable, "-m", "retrieval_grounding", "demo", "--serve"]
        began = time.perf_counter()
        with subprocess.Popen(
            [*command, "--output", output],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            try:
                said = []
                for line in process.stderr:
                    said.append(line)
                    if line.startswith("Serving at "):
                        break
                else:
                    raise SystemExit("".join(said))
                served = time.perf_counter() - began
                page = browser.new_page(base_url=said[-1].split()[2].rstrip(";"))
                page.goto("/")
                page.locator(".hero .chip").first.click()
                page.wait_for_function(SEEN)
                seen = time.perf_counter() - began
                page.close()
            finally:
                process.terminate()
    return served, seen


def main() -> None:
    """Print the seconds of each run, and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        parser.error("needs Chromium: apt-get install chromium")
    # Chromium's sandbox needs rights that root in a container does not have.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    runs = []
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=arguments)
        for _ in range(options.repeat):
            runs.append(first_hit(browser))
            print("served after {:.1f} s, a hit seen after {:.1f} s".format(*runs[-1]), flush=True)
        browser.close()
    served, seen = (median(column) for column in zip(*runs, strict=True))
    print(f"median: served after {served:.1f} s, a hit seen after {seen:.1f} s")


if __name__ == "__main__":
    main()
