"""A RabbitMQ of a test's own, whose user has a password that must be seen nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.services import RABBITMQ, PrivateRabbitMQ, needed

BROKER_PASSWORD = "canary-of-the-broker"


@contextmanager
def node_with_password(directory: Path) -> Iterator[PrivateRabbitMQ]:
    """Run a node; its URL has the password in it."""
    user = {"default_user": '<<"portico">>', "default_pass": f'<<"{BROKER_PASSWORD}">>'}
    node = PrivateRabbitMQ(directory, user)
    node.url = f"amqp://portico:{BROKER_PASSWORD}@127.0.0.1:{node.port}//"
    with needed(RABBITMQ), node:
        yield node
