"""Importing a CSV file of orders as a job: a handler, and the fetcher and the storage injected into it.

A file that is missing or wrong is a result that names the line; a server or a database in trouble is raised,
and so retried. Orders are stored by their id, so running the job again changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import aiohttp

from examples.orders import Order, parse_orders
from portico_celery.exceptions import PorticoError, ValidationError
from portico_celery.ports.job import Job, JobResult
from portico_celery.ports.job_handler import JobHandler
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# Below 500, and yet worth another try: the server was slow or asks to be left alone for a while.
_TRANSIENT_STATUSES = frozenset({408, 425, 429})


class SourceUnavailable(PorticoError):
    """The server that has the file can't give it now."""


class Fetcher(Protocol):
    """What the handler needs to get the file."""

    async def fetch(self, url: str) -> bytes:
        """Return what is at the URL. Raises ValidationError where that is final, and anything else where it is not."""


class OrderStorage(Protocol):
    """What the handler needs to keep the orders."""

    async def upsert(self, orders: Sequence[Order]) -> None:
        """Store all of the orders or none, each in place of the one that had its id."""


class HttpFetcher:
    """Fetches over HTTP. It fetches whatever URL a job names: let only those create jobs who may name one.

    One session, and so one pool of connections, serves all jobs. It is made on first use, inside the event loop
    that it then belongs to; handlers may keep it, since all jobs of a process run on one lasting loop.
    """

    def __init__(self, *, timeout: float = 30.0, max_bytes: int = 10_000_000) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._session: aiohttp.ClientSession | None = None

    async def fetch(self, url: str) -> bytes:
        try:
            async with self._open_session().get(url) as response:
                _check_status(response)
                return await self._read(response)
        except (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError) as error:
            raise ValidationError("source_url is not an HTTP URL") from error

    async def aclose(self) -> None:
        """Close the connections; a later fetch opens them again."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=self._timeout)
            # No cookies: what one job's server sets is no business of the next job.
            self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        # Counted as it arrives and after decompression, since a length that a server announces proves nothing.
        content = bytearray()
        async for chunk in response.content.iter_any():
            content += chunk
            if len(content) > self._max_bytes:
                raise ValidationError(f"the file is larger than {self._max_bytes} bytes")
        return bytes(content)


class ImportCsv(JobHandler):
    """Imports the orders in the CSV file at the payload's ``source_url``."""

    def __init__(self, fetcher: Fetcher, storage: OrderStorage) -> None:
        self._fetcher = fetcher
        self._storage = storage

    @property
    def job_type(self) -> str:
        return "data.import"

    async def handle(self, job: Job) -> JobResult:
        try:
            content = await self._fetcher.fetch(_source_url(job))
            # In a thread, since a large file would keep the event loop from the other jobs.
            orders = await asyncio.to_thread(parse_orders, content)
        except ValidationError as error:
            logger.warning("import_refused", job_id=str(job.id), error=str(error))
            return JobResult(success=False, error=error)
        await self._storage.upsert(orders)
        logger.info("import_completed", job_id=str(job.id), records_imported=len(orders))
        return JobResult(success=True, result_data={"records_imported": len(orders)})

    async def on_failure(self, job: Job, error: Exception) -> None:
        # Nothing to clean up: orders are stored all at once or not at all.
        logger.error(
            "import_job_failed",
            job_id=str(job.id),
            error=str(error),
            retry_count=job.retry_count,
            retries_spent=job.retry_count >= job.max_retries,
        )


def _source_url(job: Job) -> str:
    source_url = job.payload.get("source_url")
    if not isinstance(source_url, str) or not source_url:
        raise ValidationError("payload needs a text: source_url")
    if job.payload.get("format", "csv") != "csv":
        raise ValidationError(f"format must be csv, not {job.payload['format']!r}")
    return source_url


def _check_status(response: aiohttp.ClientResponse) -> None:
    if response.status == 200:
        return
    if response.status >= 500 or response.status in _TRANSIENT_STATUSES:
        raise SourceUnavailable(f"the server of source_url answered {response.status}")
    raise ValidationError(f"the server of source_url answered {response.status}")
