"""The words of `engine account`; `engine.cli.account` carries them out."""

from pathlib import Path
from typing import Annotated, Optional

import typer

app = typer.Typer(no_args_is_help=True, help="Add and list brokers' accounts, and log them in.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Secrets = Annotated[
    Path, typer.Option("--secrets", metavar="FILE", help="Where the secrets are; - for standard input.")
]


@app.command("add")
def add(
    tenant: str,
    name: Annotated[str, typer.Argument(help="What the tenant calls it.")] = "main",
    broker: Annotated[str, typer.Option(help="As `docs/connectors.md` lists them.")] = "kite",
    url: Annotated[str, typer.Option(help="Its HTTP interface; the broker's own where absent.")] = "",
    ws_url: Annotated[str, typer.Option(help="Its ticker; the broker's own where absent.")] = "",
    secrets: Secrets = Path("-"),
    as_json: AsJson = False,
) -> None:
    """Store an account; its secrets are a JSON object with api_key, api_secret and, if you have it, access_token."""
    from engine.cli.account import add as carry_out

    raise typer.Exit(carry_out(tenant, name, broker, (url, ws_url), secrets, as_json=as_json))


@app.command("list")
def show_all(
    tenant: Annotated[Optional[str], typer.Option(help="Only this tenant's.")] = None,  # noqa: UP045
    as_json: AsJson = False,
) -> None:
    """List accounts and whether they can trade."""
    from engine.cli.account import show_all as carry_out

    raise typer.Exit(carry_out(tenant, as_json=as_json))


@app.command("login")
def login(
    tenant: str,
    name: Annotated[str, typer.Argument(help="What the tenant calls it.")] = "main",
    secrets: Secrets = Path("-"),
    access_token: Annotated[bool, typer.Option("--access-token", help="It is the access token itself.")] = False,
    as_json: AsJson = False,
) -> None:
    """Give an account the day's token: the request token your broker's login page handed over, on standard input."""
    from engine.cli.account import login as carry_out

    raise typer.Exit(carry_out(tenant, name, secrets, is_access_token=access_token, as_json=as_json))
