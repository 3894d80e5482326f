"""Secrets travel through the webhook to a worker, while Flower looks on: they can be read nowhere on the way."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import make_url

from tests.abuse.canary import PAYLOAD, Canary
from tests.abuse.flower_pages import APP, Flower
from tests.abuse.private_node import BROKER_PASSWORD
from tests.abuse.target import Target, a_target
from tests.integration.worker_process import Worker
from tests.postgresql import own_schema
from tests.services import PrivateRabbitMQ
from tests.waiting import eventually

NAME = "canary"
STORE_PASSWORD = "canary-of-the-store"
ENDED = {"SUCCESS", "FAILURE"}


def with_password(store: str) -> str:
    """Return a store's URL with a password, which a server that trusts its clients does not look at."""
    url = make_url(store)
    return (url if url.password else url.set(password=STORE_PASSWORD)).render_as_string(hide_password=False)


def a_worker(target: Target, directory: Path) -> Worker:
    """Start a worker that tells of all that it does."""
    command = [sys.executable, "-m", "celery", "-A", APP, "worker", "-E", "-l", "DEBUG", "-P", "threads", "-c", "2"]
    command += ["-Q", target.queue_name, "-n", f"{NAME}@localhost", "--without-mingle", "--without-gossip"]
    return Worker(NAME, command, directory=directory, environment=target.environment)


def planted_under_flowers_eyes(canary: Canary, target: Target, directory: Path) -> tuple[dict[str, str], set[str]]:
    """Let a worker run what was planted; returns all that can be read then, by where, and the jobs that Flower saw."""
    before = set(canary.job_ids)
    with a_worker(target, directory) as worker, Flower(target, directory) as flower:
        # Once more: of what happened before it listened, Flower knows nothing.
        canary.plant()
        seen = canary.job_ids - before
        eventually(
            lambda: all(flower.tasks().get(job_id, {}).get("state") in ENDED for job_id in seen),
            describe=lambda: f"their end\n{flower.log_tail}\n{worker.log_tail}",
        )
        texts = flower.all_pages(f"{NAME}@localhost", seen)
        return texts | {program.name: program.log for program in (target.server, worker, flower)}, seen


def hits(secrets: set[str], texts: Mapping[str, str]) -> list[str]:
    """Say which secret can be read where."""
    return [f"{secret} in {where}" for where, text in texts.items() for secret in secrets if secret in text]


def test_what_is_secret_is_in_no_log_no_answer_no_message_and_on_no_page_of_flowers(
    secret_node: PrivateRabbitMQ, postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    with (
        own_schema(postgres_url) as store,
        a_target(tmp_path, broker=secret_node.url, store=with_password(store), redis=redis_url) as target,
    ):
        canary = Canary(target)
        canary.plant()
        eventually(lambda: set(target.knocked_ids()) == canary.job_ids, describe="their messages")
        texts = {f"message {number}": text for number, text in enumerate(target.message_texts())}
        read, seen = planted_under_flowers_eyes(canary, target, tmp_path)
    texts |= read | {f"answer {number}": f"{one.headers} {one.body!r}" for number, one in enumerate(canary.answers)}

    found = hits(canary.secrets | {BROKER_PASSWORD, STORE_PASSWORD}, texts)
    print(f"canary hits={len(found)} over {len(texts)} texts")  # noqa: T201  # the figure
    assert not found, "\n".join(found)
    # Where they would be, it has been looked.
    assert all(PAYLOAD["shown"] in texts[f"/api/task/info/{job_id}"] for job_id in seen)
    assert all(PAYLOAD["shown"] in text for where, text in texts.items() if where.startswith("message"))
