"""``python -m portico_celery demo [--once]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

_USAGE_ERROR = 2
_INTERRUPTED = 130  # as a shell reports it
# Outside this package, and not everywhere: the repository's own examples, and what the extras bring.
_OPTIONAL = frozenset(
    {
        "examples",
        "webhook_app",
        "flask",
        "marshmallow",
        "werkzeug",
        "jiter",
        "limits",
        "apispec",
        "flask_swagger_ui",
        "aiohttp",
        "aiosmtpd",
        "aiosmtplib",
    }
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m portico_celery")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser(
        "demo",
        help="run the webhook application and a worker in one process, with sample jobs",
        description="Runs the webhook application and a worker in one process, and posts sample jobs to it. "
        "PORT chooses its port, PORTICO_DEMO_DIR the directory that it keeps its jobs in (.portico-demo).",
    )
    demo.add_argument(
        "--once", action="store_true", help="end when the jobs have ended; 1 if any ended as it should not"
    )
    options = parser.parse_args(arguments)
    try:
        return _demo(once=options.once)
    except KeyboardInterrupt:
        # While it started: a worker that runs takes it in its own way.
        return _INTERRUPTED


def _demo(*, once: bool) -> int:
    try:
        from portico_celery.demo.run import run
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _OPTIONAL:
            raise
        return _explain(missing)
    return run(once=once)


def _explain(missing: str) -> int:
    sys.stderr.write(
        f"The demo needs {missing!r}, which can't be imported. It runs the examples of the repository: "
        "get a checkout and run 'make demo' there, or pip install -e '.[all]' and python -m portico_celery demo.\n"
    )
    return _USAGE_ERROR


if __name__ == "__main__":
    sys.exit(main())
