"""The thread behind ``dequeue``, without a broker."""

from __future__ import annotations

import asyncio
import threading

from portico_celery.adapters.celery.pull.message_source import MessageSource, TakeUp
from portico_celery.adapters.celery.pull.pull_call import PullCall
from portico_celery.adapters.celery.pull.pull_thread import PullThread

SECONDS = 20.0


def test_while_the_broker_is_away_nothing_is_kept_of_callers_that_have_gone() -> None:
    tried = threading.Event()

    def unreachable(_take_up: TakeUp) -> MessageSource:
        tried.set()
        raise ConnectionRefusedError

    thread = PullThread(unreachable, lambda _call, _message: None)

    async def come_and_go() -> None:
        for _ in range(100):
            call = PullCall("queue", 0.0)
            thread.add(call)
            thread.remove(call)
        thread.add(PullCall("queue", SECONDS))

    asyncio.run(come_and_go())
    assert tried.wait(SECONDS)
    kept = len(thread._errands) + len(thread._changes) + len(thread._calls)
    thread.close()

    assert kept == 1
