"""F10: the broker confirms late, falsely or not at all, or stands still. No knock counts as sent that is not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from celery import Celery

from portico_celery import PorticoCelery
from portico_celery.adapters.celery import broker_connection, broker_link
from tests.faults.conftest import Report
from tests.faults.sizes import TIMEOUT, size
from tests.integration.fake_broker import FakeBroker, Published

pytestmark = pytest.mark.timeout(TIMEOUT)

JOBS = size(10, 100)
LIE_SECONDS = size(1.0, 10.0)
#: How long the publisher waits for a confirmation here: it loses its patience while the lie lasts.
PATIENCE_SECONDS = size(0.4, 3.0)
SECONDS = 60.0
#: Whoever waited for the broker would take longer, where it is given all the time that it wants.
MOST_SECONDS = 5.0
HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"


class Liar:
    """What the broker does with messages: it lies about each until it repents."""

    def __init__(self, lie: Callable[[Liar, Published], None]) -> None:
        self._lie = lie
        self._lock = threading.Lock()
        self.honest = threading.Event()
        self.confirmed: set[str] = set()

    def __call__(self, message: Published) -> None:
        with self._lock:
            honest = self.honest.is_set()
        if honest:
            self.confirm(message)
        else:
            self._lie(self, message)

    def confirm(self, message: Published) -> None:
        """Confirm a message in earnest."""
        with self._lock:
            self.confirmed.add(message.message_id)
        with suppress(OSError):  # the publisher has given up waiting
            message.ack()

    def later(self, action: Callable[[], None]) -> None:
        """Do something beside reading what the publisher sends."""
        threading.Thread(target=action).start()


Lie = Callable[[Liar, Published], None]


def late_ack(liar: Liar, message: Published) -> None:
    def confirm() -> None:
        liar.honest.wait()
        liar.confirm(message)

    liar.later(confirm)


def nack(_liar: Liar, message: Published) -> None:
    message.nack()


def no_ack(_liar: Liar, _message: Published) -> None:
    """Say nothing."""


def return_and_ack(_liar: Liar, message: Published) -> None:
    message.bounce()
    message.ack()


def heartbeats_only(liar: Liar, message: Published) -> None:
    def beat() -> None:
        with suppress(OSError):  # until the publisher hangs up
            while not liar.honest.wait(0.05):
                message.send(HEARTBEAT)

    liar.later(beat)


def frozen_at_declare(liar: Liar, message: Published) -> None:
    # One message is confirmed, and what follows it is never read: it is the declaring of the next queue.
    liar.confirm(message)
    liar.honest.wait()


LIES: dict[Lie, float] = {
    late_ack: SECONDS,
    nack: PATIENCE_SECONDS,
    no_ack: PATIENCE_SECONDS,
    return_and_ack: PATIENCE_SECONDS,
    heartbeats_only: PATIENCE_SECONDS,
    frozen_at_declare: PATIENCE_SECONDS,
}


@contextmanager
def a_client_of(url: str, store_url: str) -> Iterator[PorticoCelery]:
    app = Celery("client", broker=url, set_as_current=False)
    portico = PorticoCelery(app, store=store_url)
    portico.declare("email.send")
    try:
        yield portico
    finally:
        portico.close()
        app.close()


def lie_to_a_client(lie: Lie, store_url: str) -> tuple[bool, list[float]]:
    """Return whether the client took what it had sent for confirmed while it was not, and how long its creates took."""
    created, seconds, liar = set(), [], Liar(lie)
    with FakeBroker(liar) as broker, a_client_of(broker.url, store_url) as portico:
        try:
            for number in range(JOBS):
                began = time.perf_counter()
                job = portico.sync.create_job("email.send", {}, f"queue-{number % 2}")
                seconds.append(time.perf_counter() - began)
                created.add(str(job.id))
            false = portico.flush(LIE_SECONDS) and liar.confirmed != created
        finally:
            liar.honest.set()
        if not false:
            assert portico.flush(SECONDS), f"{lie.__name__}: the honest confirmations did not count"
            assert liar.confirmed == created, f"{lie.__name__}: not all was sent again"
    return false, seconds


def test_no_knock_counts_as_sent_that_the_broker_has_not_truly_confirmed(
    tmp_path: Path, report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    believed, seconds = [], []
    for lie, patience in LIES.items():
        monkeypatch.setattr(broker_link, "CONFIRM_SECONDS", patience)
        monkeypatch.setattr(broker_connection, "_SOCKET_SECONDS", patience)
        false, taken = lie_to_a_client(lie, f"sqlite:///{tmp_path / lie.__name__}.db")
        believed += [lie.__name__] if false else []
        seconds += taken
    report(
        "F10", lies=len(LIES), false_confirms=f"{len(believed)}/{len(LIES)}", create_max=f"{max(seconds) * 1000:.0f}ms"
    )
    assert believed == []
    assert max(seconds) < MOST_SECONDS
