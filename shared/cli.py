"""The command `attain`: small tools for whoever runs the stack."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from shared.clock import WallClock
from shared.errors import Misconfigured
from shared.http.auth import Role
from shared.http.keys import LOCAL_AUDIENCE, LOCAL_ISSUER, read_private_key, sign_token
from shared.statement_checker import verify

SIGNING_KEY_VARIABLE = "ATTAIN_SIGNING_KEY_PATH"
DEFAULT_SIGNING_KEY = Path(".state/keys/signing.json")

app = typer.Typer(
    name="attain",
    help="Tools for a local Attain stack.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def main() -> None:
    """Tools for a local Attain stack."""


@app.command()
def token(  # noqa: PLR0913, PLR0917 - one option a claim, typer passes them by name
    role: Annotated[
        list[Role] | None, typer.Option(help="What the caller is; may be given several times.")
    ] = None,
    person: Annotated[str | None, typer.Option(help="The person's id, provider:tenant:id.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="What a machine may do, such as ingest:write.")
    ] = None,
    minutes: Annotated[int, typer.Option(min=1, max=60, help="Until it expires.")] = 60,
    subject: Annotated[
        str | None, typer.Option(help="The token's sub; the person's id when not given.")
    ] = None,
    issuer: Annotated[str, typer.Option(envvar="ATTAIN_ISSUER")] = LOCAL_ISSUER,
    audience: Annotated[str, typer.Option(envvar="ATTAIN_AUDIENCE")] = LOCAL_AUDIENCE,
) -> None:
    """Print an access token that the local stack accepts, and nothing else."""
    path = Path(os.environ.get(SIGNING_KEY_VARIABLE) or DEFAULT_SIGNING_KEY)
    try:
        key = read_private_key(path)
    except Misconfigured as fault:
        print(f"attain token: {fault}", file=sys.stderr)  # noqa: T201 - a command's output
        raise typer.Exit(1) from None
    roles = role or ([Role.SERVICE] if scope else [])
    if not roles:
        print("attain token: give a --role or a --scope", file=sys.stderr)  # noqa: T201
        raise typer.Exit(2)
    signed = sign_token(
        key,
        subject=subject or person or "local",
        person_id=person,
        roles=roles,
        scopes=scope or (),
        issuer=issuer,
        audience=audience,
        lifetime_s=minutes * 60,
        now=WallClock().now(),
    )
    print(signed)  # noqa: T201 - a command's output


@app.command("verify")
def verify_command(
    paths: Annotated[list[Path], typer.Argument(help="Statements' proofs or explanations, JSON.")],
) -> None:
    """Recompute statements from their files alone: 0 all follows, 1 something does not, 2 unread.

    shared/statement_checker.py does the same by itself, without the rest of Attain.
    """
    raise typer.Exit(verify(paths))


if __name__ == "__main__":
    app()
