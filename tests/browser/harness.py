"""Drive a real Chromium over the console, and judge a page as its readers would.

`Watch` collects what a page complains about; `judge` runs axe-core over it.
A clean page has no axe violation, no console message and no CSP violation.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

CHROMIUM = os.environ.get("KV_CHROMIUM", "/usr/bin/chromium")
AXE = Path(__file__).parent / "vendor" / "axe.min.js"
SHOTS = os.environ.get("KV_SHOTS", "")

SIZES = {1440: 900, 390: 844}
# What axe is asked to run, in its own words.
EVERYTHING = {
    "type": "tag",
    "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
}
COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}

_QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-domain-reliability",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
)
# Axe cannot see these as a person does, and says so itself by calling them best practice.
_NOT_JUDGED: frozenset[str] = frozenset()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Debian's Chromium, silent on the network."""
    sandbox = ("--no-sandbox",) if os.geteuid() == 0 else ()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=[*_QUIET, *sandbox], timeout=60_000
        )
        yield browser
        browser.close()


@dataclass
class Watch:
    """What pages of one context complained about."""

    messages: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def over(self, context: BrowserContext) -> None:
        """Listen to every page of a context."""
        context.on("page", self._listen)
        context.add_init_script(
            "addEventListener('securitypolicyviolation', (e) =>"
            " console.error(`csp: ${e.violatedDirective} ${e.blockedURI} ${e.sample}`));"
        )

    def _listen(self, page: Page) -> None:
        page.on("console", lambda message: self._note(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self._note(f"error: {error}"))

    def _note(self, text: str) -> None:
        if not any(part in text for part in self.expected):
            self.messages.append(text)

    def expect(self, part: str) -> None:
        """Leave out messages that contain `part`, such as the status of an error page."""
        self.expected.append(part)


def violations(page: Page, rules: dict[str, object] = EVERYTHING) -> list[str]:
    """Return what axe-core finds on the page as it stands, one line for each node."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE.read_text())
    found = page.evaluate(
        "async (runOnly) =>"
        " (await axe.run(document, {runOnly, resultTypes: ['violations']})).violations",
        rules,
    )
    return [
        f"{rule['id']}: {' '.join(map(str, node['target']))}: {node['html'][:160]}"
        for rule in found
        if rule["id"] not in _NOT_JUDGED
        for node in rule["nodes"]
    ]


def overflow(page: Page) -> list[str]:
    """Return the elements that are wider than the window, where the page scrolls sideways."""
    return page.evaluate(
        """() => {
          const wide = document.documentElement.scrollWidth > innerWidth;
          if (!wide) return [];
          const at = (e) => `${e.tagName}.${e.className} ends at ${e.getBoundingClientRect().right}`;
          return [...document.querySelectorAll("body *")]
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 8).map(at);
        }"""
    )


def shoot(page: Page, name: str) -> None:
    """Save a picture of the whole page as `<name>.png`, where KV_SHOTS names a directory."""
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png", full_page=True)


def complaints(page: Page, watch: Watch) -> list[str]:
    """Return what axe, the console and the content policy say about a page, and forget it."""
    page.wait_for_load_state("networkidle")
    found = [*violations(page), *watch.messages, *overflow(page)]
    watch.messages.clear()
    return found


def faults(page: Page, watch: Watch, name: str) -> list[str]:
    """Return what is wrong with a page at both widths, in both themes, and at 320 pixels.

    The page is left light and wide. Pictures of it are called `<name>-<theme>-<width>`.
    """
    found = []
    for width, height in SIZES.items():
        page.set_viewport_size({"width": width, "height": height})
        found += complaints(page, watch)
        shoot(page, f"{name}-light-{width}")
        # A theme changes colours and nothing else, so nothing else is judged again.
        page.emulate_media(color_scheme="dark")
        found += [*violations(page, COLOURS), *watch.messages]
        shoot(page, f"{name}-dark-{width}")
        page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 320, "height": 700})
    found += overflow(page)
    page.set_viewport_size({"width": 1440, "height": SIZES[1440]})
    watch.messages.clear()
    return [f"{name}: {fault}" for fault in found]


def assert_clean(page: Page, watch: Watch) -> None:
    """Assert that axe, the console and the content policy have nothing to say."""
    found = complaints(page, watch)

    assert not found, f"{page.url}\n" + "\n".join(found)
