"""The page of the webhook's documents in a real browser: it is tried out with an API key."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from marshmallow import Schema, fields
from werkzeug.serving import make_server

from portico_celery.adapters.job_queue.memory_queue import MemoryJobQueueAdapter
from portico_celery.kits.job import JobService
from portico_celery.ports.job_reader import JobFilter
from tests.e2e.browser import a_page, require_browser
from tests.unit.webhook.mounted import a_key
from webhook_app import create_app

TRY_OUT = """
const wait = async find => {
    for (let turn = 0; turn < 600; turn++) {
        const found = find();
        if (found) return found;
        await new Promise(resolve => setTimeout(resolve, 50));
    }
    throw new Error('not found: ' + find);
};
const one = (selector, within = document) => wait(() => within.querySelector(selector));
const type = (field, text) => {
    // React looks for the change behind its own back.
    Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), 'value').set.call(field, text);
    field.dispatchEvent(new Event('input', {bubbles: true}));
};
const tried = async summary => {
    const operation = await wait(() => [...document.querySelectorAll('.opblock')].find(
        each => each.querySelector('.opblock-summary-description').innerText === summary));
    operation.querySelector('.opblock-summary-control').click();
    (await one('.try-out__btn', operation)).click();
    (await one('.execute', operation)).click();
    return (await one('.live-responses-table tbody .response-col_status', operation)).innerText.trim();
};
const before = await tried('List jobs');
(await one('.btn.authorize')).click();
type(await one('.auth-container input'), 'KEY');
(await one('.auth-btn-wrapper .authorize')).click();
(await one('.auth-btn-wrapper .btn-done')).click();
return [before, await tried('Create a job')];
"""


class Mail(Schema):
    """The payload of email.send."""

    to = fields.Email(required=True)


@contextmanager
def served(service: JobService, directory: Path, key: str) -> Iterator[str]:
    """Serve webhook_app, with the security headers that it has in production."""
    config = directory / "webhook.toml"
    config.write_text(f'{key}\n[payload_schemas]\n"email.send" = "tests.e2e.test_docs_page:Mail"\n')
    face: Any = SimpleNamespace(service=service)
    server = make_server("127.0.0.1", 0, create_app(face, {"PORTICO_WEBHOOK_CONFIG": str(config)}), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_page_is_tried_out_with_a_key_and_asks_nobody_else(tmp_path: Path) -> None:
    require_browser()
    key, headers = a_key("shop")
    entry = f'[[keys]]\nid = "{key.id}"\ncaller = "shop"\nsha256 = "{key.sha256}"'
    service = JobService(MemoryJobQueueAdapter())

    async def try_out(url: str) -> tuple[Any, list[str], list[Any]]:
        async with a_page(tmp_path, f"{url}/webhooks/docs") as page:
            script = TRY_OUT.replace("KEY", headers["Authorization"].removeprefix("Bearer "))
            return await page.run(script), page.requests, page.complaints

    with served(service, tmp_path, entry) as url:
        statuses, requests, complaints = asyncio.run(try_out(url))

    assert statuses == ["401", "202"]
    (job,) = asyncio.run(service.list_jobs(JobFilter())).jobs
    assert (job.job_type, job.payload) == ("email.send", {"to": "user@example.com"})
    assert all(request.startswith((f"{url}/webhooks/", "data:")) for request in requests), requests
    # The browser itself notes the refusal.
    assert [one for one in complaints if "401" not in str(one)] == []
