"""What may befall the connections through a proxy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from tests.faults.tcp_proxy import Link, Toxic

_LATENCY_SECONDS = 0.1
_TRICKLE_BYTES = 100
_TRICKLE_SECONDS = 0.1
_MOST_BYTES = 3_000


class Latency(Toxic):
    """All takes 100 ms longer, each way."""

    async def carry(self, link: Link, data: bytes, to: asyncio.StreamWriter) -> None:
        self.bites += 1
        await asyncio.sleep(_LATENCY_SECONDS)
        await super().carry(link, data, to)


class Resets(Toxic):
    """Every second, all connections are reset."""

    strikes_every = 1.0

    def strike(self, link: Link) -> None:
        self.bites += 1
        link.abort()


class Silence(Toxic):
    """All connections are reset; new ones are accepted, and nobody ever says a word on them."""

    def on_existing_link(self, link: Link) -> None:
        link.abort()

    def on_new_link(self, link: Link) -> None:
        self.bites += 1
        link.mute = True


class Partition(Toxic):
    """Nothing gets through on any connection until it is over, and then all of it does."""

    async def carry(self, link: Link, data: bytes, to: asyncio.StreamWriter) -> None:
        self.bites += 1
        await self.over.wait()
        await super().carry(link, data, to)


class HalfCloses(Toxic):
    """Every second, one end of each connection hears that nothing more will come from the other."""

    strikes_every = 1.0

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    def strike(self, link: Link) -> None:
        self.bites += 1
        link.half_close(self._chance.randrange(2))


class Trickle(Toxic):
    """1 kB a second gets through, on each connection and each way."""

    def __init__(self, *, byte_count: int = _TRICKLE_BYTES, pause: float = _TRICKLE_SECONDS) -> None:
        super().__init__()
        self._byte_count = byte_count
        self._pause = pause

    async def carry(self, link: Link, data: bytes, to: asyncio.StreamWriter) -> None:
        while data and not self.over.is_set():
            self.bites += 1
            await super().carry(link, data[: self._byte_count], to)
            data = data[self._byte_count :]
            await asyncio.sleep(self._pause)
        await super().carry(link, data, to)


class Cuts(Toxic):
    """Each connection ends after so and so many bytes, wherever in a frame that is."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance
        self._left: dict[Link, int] = {}

    async def carry(self, link: Link, data: bytes, to: asyncio.StreamWriter) -> None:
        left = self._left.setdefault(link, self._chance.randint(1, _MOST_BYTES)) - len(data)
        self._left[link] = left
        if left >= 0:
            await super().carry(link, data, to)
            return
        self.bites += 1
        await super().carry(link, data[:left], to)
        link.close()


TOXICS: dict[str, Callable[[random.Random], Toxic]] = {
    "latency": lambda _chance: Latency(),
    "resets": lambda _chance: Resets(),
    "silence": lambda _chance: Silence(),
    "partition": lambda _chance: Partition(),
    "half_closes": HalfCloses,
    "trickle": lambda _chance: Trickle(),
    "cuts": Cuts,
}
