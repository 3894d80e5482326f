"""The servers that other tests rely on do what those tests expect of them."""

from __future__ import annotations

import dataclasses
import socketserver
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from amqp import PreconditionFailed
from kombu import Connection, Exchange, Queue
from kombu.message import Message

from tests.services import (
    RABBITMQ,
    PrivateRabbitMQ,
    Service,
    ServiceMissing,
    free_port,
    needed,
    skip_reason,
    speaks_amqp,
)

StartNode = Callable[..., PrivateRabbitMQ]


QUEUE = Queue("kept", Exchange(""), routing_key="kept")
PERSISTENT = 2


def publish(url: str, body: str) -> None:
    with Connection(url, transport_options={"confirm_publish": True}) as connection:
        connection.Producer().publish(body, routing_key="kept", declare=[QUEUE], delivery_mode=PERSISTENT)


def read(url: str) -> object:
    with Connection(url) as connection:
        message = QUEUE(connection.default_channel).get(no_ack=True)
        return message and message.payload


def keep(_message: Message) -> None:
    """Leave the message unacknowledged."""


def test_a_private_node_keeps_its_messages_when_it_is_killed_and_started_again(private_rabbitmq: StartNode) -> None:
    node = private_rabbitmq()
    publish(node.url, "still here")

    node.kill()
    assert not speaks_amqp(node.url)
    node.start()

    assert read(node.url) == "still here"


def test_a_private_node_takes_the_settings_it_is_given(private_rabbitmq: StartNode) -> None:
    node = private_rabbitmq(config={"consumer_timeout": "300", "channel_tick_interval": "100"})
    publish(node.url, "never acknowledged")

    with Connection(node.url) as connection, connection.Consumer([QUEUE], on_message=keep):
        connection.drain_events(timeout=10)  # the message comes
        with pytest.raises(PreconditionFailed, match="300"):
            connection.drain_events(timeout=10)


def test_the_queue_of_a_test_can_be_used(amqp_url: str, queue_name: str) -> None:
    with Connection(amqp_url) as connection:
        queue = Queue(queue_name, Exchange(""), channel=connection.default_channel)
        queue.declare()
        assert queue.get() is None


def test_an_open_port_that_speaks_something_else_is_no_broker() -> None:
    class NotABroker(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), NotABroker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert not speaks_amqp(f"amqp://guest:guest@127.0.0.1:{server.server_address[1]}//")
        server.shutdown()


def nothing_answers(_url: str) -> bool:
    return False


def nothing_starts(_directory: Path) -> AbstractContextManager[str]:
    raise ServiceMissing("no such program")


@pytest.fixture
def missing_service(monkeypatch: pytest.MonkeyPatch) -> Service:
    monkeypatch.delenv(RABBITMQ.variable, raising=False)
    return dataclasses.replace(RABBITMQ, answers=nothing_answers, start_private=nothing_starts)


def test_a_named_server_that_does_not_answer_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RABBITMQ.variable, f"amqp://127.0.0.1:{free_port()}//")
    with pytest.raises(ConnectionError, match=RABBITMQ.variable), RABBITMQ.running(tmp_path):
        pass


def test_a_missing_server_skips_the_test_at_home(
    tmp_path: Path, missing_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    skipped = pytest.raises(pytest.skip.Exception, match=skip_reason(missing_service))
    with skipped, needed(missing_service), missing_service.running(tmp_path):
        pass


def test_a_missing_server_fails_the_test_in_continuous_integration(
    tmp_path: Path, missing_service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception), needed(missing_service), missing_service.running(tmp_path):
        pass
