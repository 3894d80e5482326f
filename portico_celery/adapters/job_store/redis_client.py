"""How the Redis store reaches its server: time limits, errors of our own tree, and whether the server keeps jobs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

from portico_celery.exceptions import ConfigurationError, StoreError, StoreUnavailable
from portico_celery.utils.logging import get_logger

logger = get_logger(__name__)

# A caller learns within this time that the store does not answer.
ANSWER_SECONDS = 2.0

_REFUSALS = (AuthenticationError, AuthorizationError)  # redis-py counts them among its ConnectionErrors
_OUTAGES = (
    ConnectionError,  # also "loading" and "too many clients"
    TimeoutError,
    ReadOnlyError,
    OutOfMemoryError,
    MasterDownError,
    ClusterDownError,
    TryAgainError,
)
# Redis can't write to its disk, has too few replicas, or runs somebody's long script. redis-py has no classes for them.
_OUTAGE_CODES = ("MISCONF", "NOREPLICAS", "BUSY")


def make_client(url: str) -> Redis:
    """Make a client; nothing connects yet. Raises ConfigurationError for a URL it can't serve."""
    try:
        client = Redis.from_url(
            url,
            decode_responses=True,
            # An error message may hold half a surrogate pair: the name of a file, say, that is no UTF-8.
            encoding_errors="surrogatepass",
            socket_timeout=ANSWER_SECONDS,
            socket_connect_timeout=ANSWER_SECONDS,
            # redis-py would try three times more, each as long as the first.
            retry=Retry(NoBackoff(), 0),
            # By version 3 redis-py does not look whether a pooled connection was closed meanwhile, and our first call
            # after a restart of the server would fail.
            protocol=2,
        )
        # An option in the URL that redis-py does not know would otherwise show in the first call.
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"portico_store_url is no Redis URL: {error}") from error
    return client


def shown(url: str) -> str:
    """Return the URL without its password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


@contextmanager
def translated_errors(url: str) -> Iterator[None]:
    """Turn redis-py's errors into StoreUnavailable (try again) or StoreError, with the cause kept."""
    try:
        yield
    except RedisError as error:
        if _is_outage(error):
            # A call that timed out may have been carried out: the answer is what is missing.
            raise StoreUnavailable(
                f"the job store {url} did not answer: {str(error).rstrip('.')}. "
                "Nothing is promised; check that it runs and try again"
            ) from error
        raise StoreError(f"the job store {url} refused: {error}") from error


def _is_outage(error: RedisError) -> bool:
    if isinstance(error, _REFUSALS):
        return False
    return isinstance(error, _OUTAGES) or str(error).startswith(_OUTAGE_CODES)


def pipelined(client: Redis, commands: Sequence[Sequence[Any]]) -> list[Any]:
    """Send commands in one go, without a transaction; their answers, among which may be a ResponseError."""
    pipeline: Any = client.pipeline(transaction=False)  # redis-py leaves execute_command without types
    with pipeline:
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute(raise_on_error=False))


def checked(answers: list[Any]) -> list[Any]:
    """Return the answers, or raise the first error among them."""
    for answer in answers:
        if isinstance(answer, RedisError):
            raise answer
    return answers


def warn_of_losses(client: Redis, url: str) -> None:
    """Log a warning for each of the server's settings by which it may lose jobs that it has accepted."""
    # INFO tells the same as CONFIG GET, which hosted servers forbid.
    told: dict[str, Any] = {}
    for answer in pipelined(client, [("INFO", "persistence"), ("INFO", "memory")]):
        told.update(answer if isinstance(answer, dict) else {})
    if "aof_enabled" not in told or "maxmemory_policy" not in told:
        logger.warning("redis_settings_unknown", store=url, remedy=f"the server does not tell: {_SAFE_SETTINGS}")
        return
    if not told["aof_enabled"]:
        logger.warning("redis_not_durable", store=url, remedy=_DURABLE)
    if told["maxmemory_policy"] != "noeviction":
        logger.warning("redis_may_evict", store=url, policy=told["maxmemory_policy"], remedy=_NO_EVICTION)


_SAFE_SETTINGS = "make sure that it has appendonly yes and maxmemory-policy noeviction"
_DURABLE = (
    "set appendonly yes in its configuration, or a crash of Redis loses all jobs since its last snapshot; "
    "with appendfsync always, a power cut loses none either"
)
_NO_EVICTION = "set maxmemory-policy noeviction, or Redis throws jobs away when its memory is full"
