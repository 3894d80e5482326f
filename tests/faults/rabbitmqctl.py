"""What an operator does to a RabbitMQ node, and sees of it, by its own command."""

from __future__ import annotations

import shutil
import subprocess

from tests.services import PrivateRabbitMQ

SECONDS = 60.0


def rabbitmqctl(node: PrivateRabbitMQ, *arguments: str) -> str:
    """Run the command on a node; returns what it says."""
    # Debian's command on PATH is a wrapper that changes to the user rabbitmq, or refuses.
    program = shutil.which("rabbitmqctl", path="/usr/lib/rabbitmq/bin") or "rabbitmqctl"
    command = [program, "-n", node.environment["RABBITMQ_NODENAME"], "--quiet", *arguments]
    done = subprocess.run(command, env=node.environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def close_all_connections(node: PrivateRabbitMQ) -> None:
    """Have the broker close every connection in good order, and say so to the clients."""
    rabbitmqctl(node, "close_all_connections", "the test says so")


def count_messages(node: PrivateRabbitMQ, queue_name: str) -> int:
    """Count the messages of a queue: those that wait, and those that a worker holds unacknowledged."""
    listed = rabbitmqctl(node, "list_queues", "--no-table-headers", "name", "messages")
    counts = dict(line.split("\t") for line in listed.splitlines())
    return int(counts.get(queue_name, 0))
