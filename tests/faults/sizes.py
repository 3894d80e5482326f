"""How large the tests are, and where their chances come from."""

from __future__ import annotations

import os
import random
from typing import TypeVar

T = TypeVar("T")

FULL = os.environ.get("PORTICO_FAULTS", "").lower() == "full"
#: A run is repeated by naming its seed. In the environment, so that all processes that run tests have the same.
SEED = int(os.environ.get("PORTICO_FAULTS_SEED") or random.SystemRandom().randrange(1_000_000))
os.environ["PORTICO_FAULTS_SEED"] = str(SEED)
#: By this name a test's report carries the lines of its figures.
FIGURES = "figures"
#: For pytest-timeout: what hangs shows its stacks. Some start several servers and workers, on whatever machine.
TIMEOUT = 1_800 if FULL else 300

LEASE = 3.0
SWEEP = 0.5
KNOCK = 2.0
TIMERS = {"lease_seconds": LEASE, "sweep_seconds": SWEEP, "knock_seconds": KNOCK, "retry_base_delay": 0.1}


def size(fast: T, full: T) -> T:
    """Return what counts for this run."""
    return full if FULL else fast


def chances(name: str) -> random.Random:
    """Return the chances of one test, which are the same in each run with the same seed."""
    return random.Random(f"{SEED}/{name}")  # noqa: S311  # a test that can be repeated, not a secret
