"""What Hypothesis is told for all unit tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A machine that is slow, or stands still for a moment, is no failure.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")
