"""How long a refusal takes says nothing of how near the guess was. The figures are printed, and bounded loosely."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime

from portico_celery.adapters.job_trigger.webhook_trigger import ApiKey, ApiKeys, StandardWebhooks
from portico_celery.adapters.job_trigger.webhook_trigger.http_exchange import HttpRequest
from portico_celery.adapters.job_trigger.webhook_trigger.verification import NotVerified
from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import make_key
from portico_celery.adapters.job_trigger.webhook_trigger.verification.standard_webhooks import signature_header
from tests.abuse.target_config import SECRET

CALLS = 20_000
NOW = datetime(2030, 1, 1, tzinfo=UTC)
#: A machine that is busy makes a ratio wander by some hundredths. This is far from that, and from what could be used.
MOST = 1.5


def medians(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Make each call very often, in no order that anything else could follow; the median of each, in nanoseconds."""
    taken: dict[str, list[int]] = {name: [] for name in calls}
    order = list(calls) * CALLS
    random.Random(7).shuffle(order)  # noqa: S311  # no secret
    for name in order:
        began = time.perf_counter_ns()
        calls[name]()
        taken[name].append(time.perf_counter_ns() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def request(headers: Mapping[str, str]) -> HttpRequest:
    return HttpRequest(method="POST", headers=headers, body=b"{}", remote_address="", request_id="1")


def with_key(keys: ApiKeys, text: str) -> Callable[[], object]:
    bearing = request({"authorization": f"Bearer {text}"})

    def call() -> None:
        with suppress(NotVerified):
            keys.authenticate(bearing, now=NOW)

    return call


def changed(text: str, place: int) -> str:
    """Return the text with another character at the place."""
    return text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :]


def report(what: str, taken: Mapping[str, float], base: str) -> dict[str, float]:
    ratios = {name: time_taken / taken[base] for name, time_taken in taken.items()}
    shown = " ".join(f"{name}={ratio:.3f}" for name, ratio in ratios.items())
    print(f"{what}: {base}={taken[base]:.0f}ns, of that {shown}")  # noqa: T201  # the figures
    return ratios


def test_a_wrong_key_is_refused_as_quickly_as_an_unknown_one_wherever_it_is_wrong() -> None:
    text, key_id, sha256 = make_key()
    old, old_id, old_sha256 = make_key()
    keys = ApiKeys(
        [
            ApiKey(id=key_id, caller="shop", sha256=sha256),
            ApiKey(id=old_id, caller="shop", sha256=old_sha256, expires_at=datetime(2020, 1, 1, tzinfo=UTC)),
        ]
    )
    first = len(f"pk_{key_id}_")
    calls = {
        "right": text,
        "wrong_first": changed(text, first),
        "wrong_last": changed(text, len(text) - 1),
        "unknown": make_key()[0],
        "expired": old,
    }

    ratios = report("keys", medians({name: with_key(keys, key) for name, key in calls.items()}), "wrong_last")

    # That a key is right shows by the answer itself.
    del ratios["right"]
    assert all(1 / MOST < ratio < MOST for ratio in ratios.values()), ratios


def test_a_wrong_signature_is_refused_as_quickly_wherever_it_is_wrong() -> None:
    stamp, scheme = str(int(NOW.timestamp())), StandardWebhooks(SECRET)
    right = signature_header(SECRET, "msg_1", stamp, b"{}")
    first = len("v1,")
    signatures = {
        "right": right,
        "wrong_first": changed(right, first),
        "wrong_last": changed(right, len(right) - 3),
        "wrong_all": f"v1,{'A' * 43}=",
    }

    def call_with(signature: str) -> Callable[[], object]:
        signed = request({"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature})

        def call() -> None:
            with suppress(NotVerified):
                scheme.verify(signed, now=NOW)

        return call

    calls = {name: call_with(signature) for name, signature in signatures.items()}
    ratios = report("signatures", medians(calls), "wrong_last")

    del ratios["right"]
    assert all(1 / MOST < ratio < MOST for ratio in ratios.values()), ratios
