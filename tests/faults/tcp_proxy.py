"""A TCP proxy between two programs under test. A toxic tells what it does to the links through it."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

_CHUNK = 65_536
_SECONDS = 10.0
_NO_LINGERING = struct.pack("ii", 1, 0)


class Link:
    """One connection through the proxy."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.ends = (client, server)
        #: What is said on it is heard by nobody, for as long as it lasts.
        self.mute = False

    def abort(self) -> None:
        """End it on both sides at once, by RST."""
        for end in self.ends:
            connection: socket.socket = end.get_extra_info("socket")
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGERING)
            end.transport.abort()

    def close(self) -> None:
        """End it on both sides in good order, after what has been sent."""
        for end in self.ends:
            end.close()

    def half_close(self, end: int) -> None:
        """Say to one end that nothing more will come from the other, which may be heard of no longer."""
        with suppress(OSError, RuntimeError):  # it has ended meanwhile
            self.ends[end].write_eof()


class Toxic:
    """Does nothing; made once for each use."""

    #: In seconds; None for one that never strikes.
    strikes_every: float | None = None

    def __init__(self) -> None:
        self.over = asyncio.Event()
        #: How often it did something to somebody.
        self.bites = 0

    def on_existing_link(self, link: Link) -> None:
        """The toxic begins, and a link is there."""

    def on_new_link(self, link: Link) -> None:
        """A link begins."""

    def strike(self, link: Link) -> None:
        """Do something to a link that is there."""

    async def carry(self, link: Link, data: bytes, to: asyncio.StreamWriter) -> None:  # noqa: ARG002  # for others
        """Carry what one end has said to the other."""
        with suppress(RuntimeError):  # that end has been told that nothing more will come: this is lost
            to.write(data)
        await to.drain()


class TCPProxy:
    """Listens on ``port`` for what is meant for another one of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._toxic = Toxic()
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = self._do(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_SECONDS)
        self._loop.close()

    @contextmanager
    def under(self, toxic: Toxic) -> Iterator[None]:
        """Let a toxic work on all links inside the block."""
        self._do(self._begin(toxic))
        try:
            yield
        finally:
            self._do(self._begin(Toxic()))

    def _do(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(_SECONDS)

    async def _begin(self, toxic: Toxic) -> None:
        self._toxic.over.set()
        self._toxic = toxic
        for link in list(self._links):
            toxic.on_existing_link(link)
        if toxic.strikes_every is not None:
            self._strike(toxic, toxic.strikes_every)

    def _strike(self, toxic: Toxic, every: float) -> None:
        if not toxic.over.is_set():
            for link in list(self._links):
                toxic.strike(link)
            self._loop.call_later(every, self._strike, toxic, every)

    async def _end(self) -> None:
        self._toxic.over.set()
        self._server.close()
        for link in list(self._links):
            link.abort()
        # The pumps of the links; they hear of it and end.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            return
        link = Link(writer, server_writer)
        self._links.add(link)
        self._toxic.on_new_link(link)
        try:
            await asyncio.gather(self._pump(link, reader, server_writer), self._pump(link, server_reader, writer))
            link.close()
        except OSError:
            link.abort()
        finally:
            await asyncio.gather(*(end.wait_closed() for end in link.ends), return_exceptions=True)
            self._links.discard(link)

    async def _pump(self, link: Link, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await reader.read(_CHUNK):
            if not link.mute:
                await self._toxic.carry(link, data, to)
        if to.can_write_eof() and not to.is_closing():
            to.write_eof()
