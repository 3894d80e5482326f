"""Which versions of a store's layout this release works with."""

from __future__ import annotations

from portico_celery.exceptions import StoreSchemaTooNew


def refuse_newer(found: int, *, known: int, allow_newer: bool) -> None:
    """Raise StoreSchemaTooNew for a version that a later release has made, unless ``allow_newer``."""
    if found > known and not allow_newer:
        raise StoreSchemaTooNew(
            f"the job store has schema version {found}, and this portico_celery knows up to {known}: "
            "upgrade portico_celery here, use another database, or, where the newer version's notes say that it "
            "does no harm, set portico_allow = ['newer-schema']"
        )
