"""gunicorn's log, in which a client can't write lines of its own."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

# What a path may have as it is.
_SAFE = "/!$&'()*+,:;=@~"


class AccessLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Writes a path as it travels: gunicorn decodes it, line ends and all."""

    def atoms(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return what a line may be made of."""
        atoms: dict[str, Any] = super().atoms(*args, **kwargs)
        path = atoms.get("U")
        return atoms if path is None else {**atoms, "U": quote(path.encode("latin-1", "replace"), safe=_SAFE)}
