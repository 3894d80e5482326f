"""A real browser without a window, spoken to by its DevTools protocol: Chromium, or Chrome."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.waiting import eventually

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_SECONDS = 60.0
_COMPLAINTS = ("Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled")


def require_browser() -> None:
    """Skip the test where there is none, or fail where CI=true, as for servers."""
    if BROWSER is None and os.environ.get("CI", "").lower() == "true":
        pytest.fail("a browser is needed where CI=true: install chromium")
    if BROWSER is None:
        pytest.skip("no browser: install chromium")


class Page:
    """A page. ``requests`` are the URLs that it has asked for, ``complaints`` what its console says."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self.requests: list[str] = []
        self.complaints: list[Any] = []

    async def call(self, method: str, **parameters: Any) -> Any:
        """Make a call of the protocol."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while (message := await self._socket.receive_json(timeout=_SECONDS)).get("id") != number:
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            elif message.get("method") in _COMPLAINTS:
                self.complaints.append(message["params"])
        assert "error" not in message, message
        return message["result"]

    async def run(self, script: str) -> Any:
        """Run the body of an asynchronous function in the page, and return what it returns."""
        result = await self.call(
            "Runtime.evaluate", expression=f"(async () => {{ {script} }})()", awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")


@asynccontextmanager
async def a_page(directory: Path, url: str) -> AsyncIterator[Page]:
    """Start a browser with its profile in the directory, and open the URL."""
    assert BROWSER is not None
    log = directory / "browser.log"
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--remote-debugging-port=0",
        f"--user-data-dir={directory}",
    ]
    with log.open("wb") as output:
        browser = subprocess.Popen([BROWSER, *options, "about:blank"], stdout=output, stderr=output)  # noqa: ASYNC220
    try:
        async with aiohttp.ClientSession() as session:
            address = await _address(log)
            async with session.get(f"http://{address}/json") as answer:
                pages = [one for one in await answer.json() if one["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Runtime", "Log", "Network"):
                    await page.call(f"{domain}.enable")
                await page.call("Page.navigate", url=url)
                yield page
    finally:
        browser.kill()
        browser.wait()


async def _address(log: Path) -> str:
    found = await asyncio.to_thread(
        eventually,
        lambda: re.search(r"DevTools listening on ws://([^/]+)/", log.read_text(errors="replace")),
        _SECONDS,
        "the browser",
    )
    assert found is not None
    return found[1]
