"""Headers that every answer has, and what a proxy in front may say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

_HEADERS = [
    # The page of the documents says itself what it may load.
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]
_HEADERS_OF_HTTPS = [*_HEADERS, ("Strict-Transport-Security", "max-age=31536000")]

WsgiApp = Callable[[dict[str, Any], Any], Iterable[bytes]]


def add_security_headers(app: Flask) -> None:
    """Add them to what has none of its own."""
    app.wsgi_app = _with_headers(app.wsgi_app)  # type: ignore[assignment, method-assign]  # Flask's documented way


def _with_headers(wsgi_app: WsgiApp) -> WsgiApp:
    def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        wanted = _HEADERS_OF_HTTPS if environ["wsgi.url_scheme"] == "https" else _HEADERS

        def start(status: str, headers: list[tuple[str, str]], *further: Any) -> Any:
            own = {name.lower() for name, _value in headers}
            return start_response(
                status, headers + [header for header in wanted if header[0].lower() not in own], *further
            )

        return wsgi_app(environ, start)

    return answer


def trust_proxies(app: Flask, number: int) -> None:
    """Believe ``X-Forwarded-*`` of so many proxies: with none, anybody could write there whatever it likes."""
    if number:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # Flask's documented way
            app.wsgi_app, x_for=number, x_proto=number, x_host=number, x_prefix=number
        )
