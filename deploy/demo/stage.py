"""The demo's stack: all services, a mail server and a Slack stand-in, always on empty stores."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deploy.embedded.children import ProcessSpec
from deploy.embedded.ports import LOOPBACK, is_free
from deploy.embedded.services import ROOT
from deploy.embedded.stack import Additions, RunningStack, running_stack, wipe
from deploy.embedded.state import State
from shared.http.auth import Role
from shared.http.keys import read_private_key, sign_token
from tests.support.slack_server import TOKEN as SLACK_TOKEN

MAIL = "mail-server"
SLACK = "slack-server"
SLACK_CHANNELS = {"acme-east": "C0EAST", "acme-west": "C0WEST", "acme-emea": "C0EMEA"}
SLACK_EVERYBODY = "C0SALES"
HEARS_BY = {
    "acme-marta": {"channel": "slack", "address": SLACK_CHANNELS["acme-east"]},
    "acme-niko": {"channel": "slack", "address": SLACK_CHANNELS["acme-west"]},
    "acme-petra": {"channel": "email"},
}
"""How the teams' managers want to be told; everybody else is by both."""

MAIL_SENDER = "attain@acme.example"
TOKEN_LIFETIME_S = 3_600
# What would lead the demo to servers that others use.
NOT_OURS = ("DATABASE_URL", "ATTAIN_KAFKA_BOOTSTRAP", "ATTAIN_TOPIC_PREFIX")


@dataclass(frozen=True, slots=True)
class Stage:
    """Where everything answers, and where messages were recorded."""

    stack: RunningStack
    mail_record: Path
    slack_record: Path

    def url(self, service: str) -> str:
        """Base URL of a service's API."""
        return self.stack.endpoints.services[f"{service}-api"]

    @property
    def signing_key(self) -> Path:
        """The private key that tokens of this stack are signed with."""
        return self.stack.state.root / "keys" / "signing.json"

    def token(self, *roles: Role, subject: str, scopes: tuple[str, ...] = ()) -> str:
        """An access token for an hour."""
        return sign_token(
            read_private_key(self.signing_key),
            subject=subject,
            roles=roles,
            scopes=scopes,
            now=datetime.now(UTC),
            lifetime_s=TOKEN_LIFETIME_S,
        )


@asynccontextmanager
async def stage(
    state: State, report: Callable[[str], None], *, consumers: int = 1
) -> AsyncIterator[Stage]:
    """Empty the folder, start everything in it, and stop all of it afterwards.

    Raises: StackError, in words for the person at the terminal.
    """
    wipe(state)
    state = State(state.root)  # its folders anew
    mail_record, slack_record = state.root / "mails.jsonl", state.root / "slack.jsonl"
    additions = Additions(
        neighbours={
            MAIL: neighbour(MAIL, "tests.support.mail_server", mail_record),
            SLACK: neighbour(SLACK, "tests.support.slack_server", slack_record),
        },
        variables=variables,
        consumers=consumers,
    )
    settings = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    async with running_stack(state, report, environment=settings, additions=additions) as stack:
        yield Stage(stack, mail_record, slack_record)


def neighbour(name: str, module: str, record: Path) -> Callable[[int], ProcessSpec]:
    """How to run a stand-in that keeps in `record` what it was sent, on a port."""

    def on(port: int) -> ProcessSpec:
        async def ready() -> bool:
            return not is_free(port)

        return ProcessSpec(
            name=name,
            argv=(sys.executable, "-m", module, "--port", str(port), "--record", str(record)),
            env=os.environ,
            cwd=ROOT,
            ready=ready,
        )

    return on


def variables(ports: Mapping[str, int]) -> dict[str, dict[str, str]]:
    """The services live in the company's time; notifications know the two local servers."""
    prefix = "ATTAIN_NOTIFICATIONS_"
    return {
        "metrics": {
            "ATTAIN_METRICS_CLOCK": "external",
            # This company dates no next steps: judged by them, every deal would be stalled.
            "ATTAIN_METRICS_NEXT_STEP_DAYS": "3650",
            # Its stages take days: 1.5 times the usual is nothing to call a manager for.
            "ATTAIN_METRICS_STAGE_AGE_MULTIPLE": "5",
        },
        "commissions": {"ATTAIN_COMMISSIONS_CLOCK": "external"},
        "notifications": {
            f"{prefix}SMTP_HOST": LOOPBACK,
            f"{prefix}SMTP_PORT": str(ports[MAIL]),
            f"{prefix}SMTP_SECURITY": "none",
            f"{prefix}MAIL_SENDER": MAIL_SENDER,
            f"{prefix}SLACK_TOKEN": SLACK_TOKEN,
            f"{prefix}SLACK_BASE_URL": f"http://{LOOPBACK}:{ports[SLACK]}/api/",
            f"{prefix}ALLOW_INSECURE_SLACK_BASE_URL": "true",
            f"{prefix}SLACK_CHANNELS": json.dumps(SLACK_CHANNELS),
            f"{prefix}SLACK_DEFAULT_CHANNEL": SLACK_EVERYBODY,
            # A year passes in a minute: the pause that Slack asks for would be longer.
            f"{prefix}SLACK_INTERVAL_S": "0",
        },
    }
