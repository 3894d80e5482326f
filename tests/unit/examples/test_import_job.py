"""The import handler, against a real HTTP server and a real SQLite file."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

import examples
from examples.import_job import HttpFetcher, ImportCsv, SourceUnavailable
from examples.orders import Order
from examples.orders_database import OrdersDatabase
from portico_celery.exceptions import ValidationError
from portico_celery.ports.job import Job, JobResult

ORDERS_CSV = (Path(examples.__file__).parent / "data" / "orders.csv").read_bytes()
HEADER = b"order_id,ordered_at,customer,email,product,quantity,unit_price,currency,note\n"
ROW = b"A-1,2024-03-01T09:00:00Z,Zoe,zoe@example.org,Lamp,2,64.90,EUR,\n"


@dataclass
class Source:
    """What the HTTP server serves: first the ``errors``, one a request, then the content."""

    content: bytes = ORDERS_CSV
    errors: list[int] = field(default_factory=list)
    gzipped: bool = False
    cut_short: bool = False
    peers: list[tuple[str, int]] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        self.peers.append(request.transport.get_extra_info("peername"))
        if self.errors:
            return web.Response(status=self.errors.pop(0))
        if self.cut_short:
            return await self._half_an_answer(request)
        if self.gzipped:
            return web.Response(body=gzip.compress(self.content), headers={"Content-Encoding": "gzip"})
        return web.Response(body=self.content)

    async def _half_an_answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(self.content)
        await response.prepare(request)
        await response.write(self.content[: len(self.content) // 2])
        assert request.transport is not None
        request.transport.close()
        return response


@pytest.fixture
def orders(tmp_path: Path) -> OrdersDatabase:
    return OrdersDatabase(tmp_path / "orders.db")


def a_job(**payload: Any) -> Job:
    return Job(id=uuid4(), queue_name="default", job_type="data.import", payload={"format": "csv"} | payload)


def run_against(source: Source, orders: OrdersDatabase, times: int = 1, **settings: Any) -> list[JobResult | Exception]:
    """Handle jobs one after the other, with one handler; what was raised is returned as well."""
    fetcher = HttpFetcher(**settings)  # made where no event loop runs, as a module's top level does
    handler = ImportCsv(fetcher, orders)

    async def conversation() -> list[JobResult | Exception]:
        async with http_server(source) as url, aclosing(fetcher):
            return [await outcome(handler.handle(a_job(source_url=url))) for _ in range(times)]

    return asyncio.run(conversation())


@asynccontextmanager
async def http_server(source: Source) -> AsyncIterator[str]:
    """Serve the source on a free port, and yield its URL."""
    application = web.Application()
    application.router.add_get("/orders.csv", source.serve)
    async with TestServer(application) as server:
        yield str(server.make_url("/orders.csv"))


async def outcome(handling: Coroutine[Any, Any, JobResult]) -> JobResult | Exception:
    try:
        return await handling
    except Exception as error:  # noqa: BLE001 (it is what the test asks about)
        return error


def refusal(result: JobResult | Exception) -> str:
    """Return the words of a failure that is final."""
    assert isinstance(result, JobResult)
    assert not result.success
    assert isinstance(result.error, ValidationError)
    return str(result.error)


def imported(result: JobResult | Exception) -> int:
    assert isinstance(result, JobResult)
    assert result.success
    count = result.result_data["records_imported"]
    assert isinstance(count, int)
    return count


def stored(orders: OrdersDatabase) -> dict[str, Order]:
    return {order.order_id: order for order in asyncio.run(orders.list_orders())}


def test_the_orders_of_the_file_are_stored_as_they_were_written(orders: OrdersDatabase) -> None:
    [result] = run_against(Source(), orders)

    rows = stored(orders)
    assert imported(result) == len(rows) == 200
    assert rows["SO-2024-01001"] == Order(
        order_id="SO-2024-01001",
        ordered_at=datetime(2024, 3, 1, 9, 19, 41, tzinfo=UTC),
        customer="Acme Supplies, Inc.",
        email="orders.acme@example.com",
        product='Monitor 27"',
        quantity=6,
        unit_price=Decimal("289.00"),
        currency="EUR",
        note="Invoice to head office, not to the shop",
    )
    assert rows["SO-2024-01002"].customer == "Łukasz Wiśniewski"


def test_an_import_run_again_leaves_what_one_run_leaves(orders: OrdersDatabase) -> None:
    once, again = run_against(Source(), orders, times=2)

    assert imported(once) == imported(again) == len(stored(orders)) == 200


def test_imports_of_one_file_at_the_same_time_leave_each_order_once(orders: OrdersDatabase) -> None:
    async def all_at_once() -> list[JobResult]:
        fetcher = HttpFetcher()
        handler = ImportCsv(fetcher, orders)
        async with http_server(Source()) as url, aclosing(fetcher):
            return await asyncio.gather(*(handler.handle(a_job(source_url=url)) for _ in range(8)))

    assert [imported(result) for result in asyncio.run(all_at_once())] == [200] * 8
    assert len(stored(orders)) == 200


def test_an_order_that_has_changed_replaces_the_one_stored(orders: OrdersDatabase) -> None:
    run_against(Source(content=HEADER + ROW), orders)
    run_against(Source(content=HEADER + ROW.replace(b",2,", b",3,")), orders)

    assert stored(orders)["A-1"].quantity == 3


def test_jobs_that_follow_each_other_share_one_connection(orders: OrdersDatabase) -> None:
    source = Source(content=HEADER + ROW)

    run_against(source, orders, times=3)

    assert len(source.peers) == 3
    assert len(set(source.peers)) == 1


def test_a_fetcher_that_was_closed_opens_again(orders: OrdersDatabase) -> None:
    fetcher = HttpFetcher()
    handler = ImportCsv(fetcher, orders)

    async def before_and_after() -> list[JobResult]:
        async with http_server(Source(content=HEADER + ROW)) as url:
            results = []
            for _ in range(2):
                results.append(await handler.handle(a_job(source_url=url)))
                await fetcher.aclose()
            return results

    assert [imported(result) for result in asyncio.run(before_and_after())] == [1, 1]


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_server_in_trouble_is_raised_and_the_retry_imports(orders: OrdersDatabase, status: int) -> None:
    failed, retried = run_against(Source(errors=[status]), orders, times=2)

    assert isinstance(failed, SourceUnavailable)
    assert str(status) in str(failed)
    assert imported(retried) == 200


@pytest.mark.parametrize("status", [204, 401, 404, 410])
def test_a_file_that_is_not_there_is_final(orders: OrdersDatabase, status: int) -> None:
    [result] = run_against(Source(errors=[status]), orders)

    assert str(status) in refusal(result)


def test_an_answer_that_is_cut_short_is_raised_and_nothing_is_stored(orders: OrdersDatabase) -> None:
    [result] = run_against(Source(cut_short=True), orders)

    assert isinstance(result, aiohttp.ClientPayloadError)
    assert stored(orders) == {}


def test_a_server_that_is_down_is_raised(orders: OrdersDatabase) -> None:
    fetcher = HttpFetcher()

    async def attempt(port: int) -> JobResult:
        async with aclosing(fetcher):
            return await ImportCsv(fetcher, orders).handle(a_job(source_url=f"http://127.0.0.1:{port}/orders.csv"))

    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        with pytest.raises(aiohttp.ClientConnectionError):
            asyncio.run(attempt(bound_but_deaf.getsockname()[1]))


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_file_above_the_size_limit_is_final(orders: OrdersDatabase, gzipped: bool) -> None:
    source = Source(gzipped=gzipped)

    [too_large] = run_against(source, orders, max_bytes=len(ORDERS_CSV) - 1)
    [just_right] = run_against(source, orders, max_bytes=len(ORDERS_CSV))

    assert f"larger than {len(ORDERS_CSV) - 1} bytes" in refusal(too_large)
    assert imported(just_right) == 200


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1: missing columns: order_id"),
        (b"order_id,customer\n1,Zoe\n", "line 1: missing columns: ordered_at, email"),
        (HEADER + ROW + b"A-2,2024-03-01T09:00:00Z,Zoe\n", "line 3: 3 fields where the header has 9"),
        (HEADER + ROW + ROW, "line 3: order A-1 is in the file twice"),
        (HEADER + ROW.replace(b"A-1", b""), "line 2: order_id: is empty"),
        (HEADER + ROW.replace(b"2024-03-01", b"yesterday"), "line 2: ordered_at:"),
        (HEADER + ROW.replace(b",2,", b",two,"), "line 2: quantity:"),
        (HEADER + ROW.replace(b",2,", b",0,"), "line 2: quantity: is not between"),
        (HEADER + ROW.replace(b"64.90", b"a lot"), "line 2: unit_price: is not a number"),
        (HEADER + ROW.replace(b"64.90", b"NaN"), "line 2: unit_price: is not a price"),
        (HEADER + ROW.replace(b"Zoe,", b"Zo\xeb,"), "line 2: not UTF-8"),
        (HEADER + ROW + b'A-2,"never closed\n', "line 3: not CSV"),
        # The first order's note spans lines, so the second order begins on line 4.
        (HEADER + ROW.replace(b"EUR,", b'EUR,"two\nlines"') + b"A-2\n", "line 4: 1 fields"),
    ],
)
def test_a_file_that_is_wrong_is_final_and_the_error_names_the_line(
    orders: OrdersDatabase, content: bytes, words: str
) -> None:
    [result] = run_against(Source(content=content), orders)

    assert refusal(result).startswith(words)
    assert stored(orders) == {}


def test_a_byte_order_mark_a_strange_column_and_blank_lines_do_no_harm(orders: OrdersDatabase) -> None:
    content = b"\xef\xbb\xbf" + HEADER.replace(b"note", b"note,shelf") + b"\r\n" + ROW.replace(b"EUR,", b"EUR,,7")

    [result] = run_against(Source(content=content), orders)

    assert imported(result) == 1


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        ({}, "source_url"),
        ({"source_url": 7}, "source_url"),
        ({"source_url": "http://127.0.0.1/orders", "format": "xml"}, "format"),
    ],
)
def test_a_payload_that_is_wrong_is_refused_before_anything_is_fetched(payload: dict[str, Any], words: str) -> None:
    fetcher, storage = AsyncMock(), AsyncMock()

    result = asyncio.run(ImportCsv(fetcher, storage).handle(a_job(**payload)))

    assert words in refusal(result)
    fetcher.fetch.assert_not_awaited()
    storage.upsert.assert_not_awaited()


@pytest.mark.parametrize("url", ["orders.csv", "ftp://127.0.0.1/orders.csv", "file:///etc/hostname", "http://:99999/"])
def test_an_address_that_is_not_an_http_url_is_final(orders: OrdersDatabase, url: str) -> None:
    fetcher = HttpFetcher()

    async def attempt() -> JobResult:
        async with aclosing(fetcher):
            return await ImportCsv(fetcher, orders).handle(a_job(source_url=url))

    assert "not an HTTP URL" in refusal(asyncio.run(attempt()))


def test_a_storage_in_trouble_is_raised() -> None:
    fetcher, storage = AsyncMock(), AsyncMock()
    fetcher.fetch.return_value = HEADER + ROW
    storage.upsert.side_effect = OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(ImportCsv(fetcher, storage).handle(a_job(source_url="http://127.0.0.1/orders.csv")))


def test_a_failure_is_logged_with_what_is_left_of_the_retries(caplog: pytest.LogCaptureFixture) -> None:
    job = replace(a_job(), retry_count=3, max_retries=3)

    asyncio.run(ImportCsv(AsyncMock(), AsyncMock()).on_failure(job, SourceUnavailable("503")))

    assert "event=import_job_failed" in caplog.text
    assert "retries_spent=true" in caplog.text
