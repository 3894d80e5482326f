"""The life of a job, as pure functions: a job and what happened to it give the next job.

The runner, the queues' ``reject``, the reaper and the memory store all decide here, and the SQL store is held to the
same answers by the conformance suite. Nothing here reads a clock, draws a random number or does I/O.
"""

from __future__ import annotations

from portico_celery.lifecycle.decision import decide
from portico_celery.lifecycle.error_text import (
    CANCELLED_MESSAGE,
    MAX_MESSAGE_CHARS,
    MAX_TRACEBACK_CHARS,
    NO_HANDLER,
    describe,
    lost_part,
    no_handler_message,
    unknown_type_message,
)
from portico_celery.lifecycle.outcome import Failed, Lost, Outcome, Released, Succeeded, outcome_of
from portico_celery.lifecycle.pacing import (
    LONGEST_POSTPONEMENT,
    MAX_KNOCK_DOUBLINGS,
    MAX_KNOCK_SECONDS,
    SHORTEST_POSTPONEMENT,
    RetryPolicy,
    knock_delay,
    postponement_delay,
)
from portico_celery.lifecycle.transitions import (
    REQUEUABLE,
    TERMINAL,
    WAITING,
    as_it_failed,
    awaits_its_message,
    cancelled,
    due,
    enqueued,
    finished,
    is_finished_so,
    may_start,
    owes_loss_notice,
    postponed,
    queue_stats,
    requeued,
    started,
)

__all__ = [
    "CANCELLED_MESSAGE",
    "LONGEST_POSTPONEMENT",
    "MAX_KNOCK_DOUBLINGS",
    "MAX_KNOCK_SECONDS",
    "MAX_MESSAGE_CHARS",
    "MAX_TRACEBACK_CHARS",
    "NO_HANDLER",
    "REQUEUABLE",
    "SHORTEST_POSTPONEMENT",
    "TERMINAL",
    "WAITING",
    "Failed",
    "Lost",
    "Outcome",
    "Released",
    "RetryPolicy",
    "Succeeded",
    "as_it_failed",
    "awaits_its_message",
    "cancelled",
    "decide",
    "describe",
    "due",
    "enqueued",
    "finished",
    "is_finished_so",
    "knock_delay",
    "lost_part",
    "may_start",
    "no_handler_message",
    "outcome_of",
    "owes_loss_notice",
    "postponed",
    "postponement_delay",
    "queue_stats",
    "requeued",
    "started",
    "unknown_type_message",
]
