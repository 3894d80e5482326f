"""gunicorn's log, in which a client can't write lines of its own."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from gunicorn.glogging import Logger  # type: ignore[import-untyped]

#: The path without its query, and no header: nothing that a client keeps secret.
FORMAT = '%(h)s "%(m)s %(U)s %(H)s" %(s)s %(B)s %(M)sms'
# What a path may have as it is.
_SAFE = "/!$&'()*+,:;=@~"


class AccessLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """Writes a path as it travels: gunicorn decodes it, line ends and all."""

    def atoms(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> dict[str, Any]:
        """Return what a line may be made of."""
        if self.cfg.access_log_format == FORMAT:
            atoms = _of_our_format(resp, environ, request_time)
        else:
            atoms = super().atoms(resp, req, environ, request_time)
        path = atoms.get("U")
        return atoms if path is None else {**atoms, "U": quote(path.encode("latin-1", "replace"), safe=_SAFE)}


def _of_our_format(resp: Any, environ: Mapping[str, Any], request_time: timedelta) -> dict[str, Any]:
    # All that there is, every header among it, takes longer to bring together than the line to write.
    return {
        "h": environ.get("REMOTE_ADDR", "-"),
        "m": environ.get("REQUEST_METHOD"),
        "U": environ.get("PATH_INFO"),
        "H": environ.get("SERVER_PROTOCOL"),
        "s": str(resp.status).partition(" ")[0],
        "B": getattr(resp, "sent", None),
        "M": request_time // timedelta(milliseconds=1),
    }
