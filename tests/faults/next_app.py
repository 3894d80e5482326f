"""The next version of the application under test: it knows one more job type."""

from __future__ import annotations

import os

from tests.faults.fault_app import Work, app, portico

__all__ = ["app"]

portico.register(Work("fault.next"), queue=os.environ["FAULT_QUEUE"])
