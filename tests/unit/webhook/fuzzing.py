"""How long strangers' input is looked for that the webhook stumbles over: ``make fuzz`` looks longer."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("PORTICO_HYPOTHESIS_EXAMPLES", "100"))

#: For tests with @given. A slow machine is no failure.
fuzzed = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])
