"""``python -m webhook_app make-key | sign | send``."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen
from uuid import uuid4

import click

from portico_celery.adapters.job_trigger.webhook_trigger.verification.api_keys import make_key
from portico_celery.exceptions import ConfigurationError
from webhook_app.signing import SIGNERS, signed_headers

_TIMEOUT = 30.0
_scheme = click.option("--scheme", type=click.Choice(sorted(SIGNERS)), default="standard-webhooks", show_default=True)
_secret = click.option("--secret", envvar="WEBHOOK_SECRET", help="The sender's secret; or set WEBHOOK_SECRET.")
_body = click.argument("body", type=click.File("rb"), default="-")


@click.group()
def cli() -> None:
    """Tools for who runs the webhook and for who tries it out."""


@cli.command("make-key")
@click.option("--caller", required=True, help="Whom the key is for.")
@click.option("--job-type", "job_types", multiple=True, help="A job type it may create; without it, all.")
@click.option("--queue", "queues", multiple=True, help="A queue it may use; without it, all.")
@click.option("--days", type=click.IntRange(min=1), help="For how many days it is good; without it, for ever.")
def make_api_key(caller: str, job_types: tuple[str, ...], queues: tuple[str, ...], days: int | None) -> None:
    """Make an API key: the key for its owner, and the entry for the configuration file."""
    text, key_id, sha256 = make_key()
    click.echo(f"The key, which is shown this once:\n\n    {text}\n\nFor the configuration file:\n", err=True)
    entry: dict[str, str | list[str]] = {"id": key_id, "caller": caller, "sha256": sha256}
    entry |= {name: list(them) for name, them in (("job_types", job_types), ("queues", queues)) if them}
    # JSON's texts and lists are TOML's, too.
    lines = ["[[keys]]", *(f"{name} = {json.dumps(value)}" for name, value in entry.items())]
    if days is not None:
        expires_at = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
        lines.append(f"expires_at = {expires_at.isoformat()}")
    click.echo("\n".join(lines))


@cli.command()
@_scheme
@_secret
@_body
def sign(scheme: str, secret: str | None, body: IO[bytes]) -> None:
    """Print the headers that a sender would send with the BODY (a file, or - for the input)."""
    for name, value in _headers(scheme, secret, body.read()).items():
        click.echo(f"{name}: {value}")


@cli.command()
@click.argument("url")
@_body
@_scheme
@_secret
@click.option("--key", envvar="WEBHOOK_KEY", help="An API key instead of a signature; or set WEBHOOK_KEY.")
@click.option("--event", help="The event's type, where the scheme has it in a header.")
def send(url: str, body: IO[bytes], scheme: str, secret: str | None, key: str | None, event: str | None) -> None:
    """Send the BODY to the URL, signed, and print the answer."""
    content = body.read()
    headers = {"Authorization": f"Bearer {key}"} if key else _headers(scheme, secret, content)
    if event:
        headers["X-GitHub-Event"] = event
    if not url.startswith(("http://", "https://")):
        raise click.BadParameter("must begin with http:// or https://", param_hint="URL")
    request = Request(url, content, {"Content-Type": "application/json", **headers})  # noqa: S310  # checked above
    try:
        with urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310  # checked above
            click.echo(f"{response.status} {response.read().decode()}")
    except HTTPError as error:
        click.echo(f"{error.code} {error.read().decode(errors='replace')}")
        raise click.exceptions.Exit(1) from None
    except URLError as error:
        raise click.ClickException(f"{url} does not answer: {error.reason}") from None


def _headers(scheme: str, secret: str | None, body: bytes) -> dict[str, str]:
    if not secret:
        raise click.UsageError("name the secret: --secret, or WEBHOOK_SECRET")
    try:
        return signed_headers(scheme, secret, body, timestamp=str(int(time.time())), delivery_id=uuid4().hex)
    except ConfigurationError as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    cli(prog_name="python -m webhook_app")
