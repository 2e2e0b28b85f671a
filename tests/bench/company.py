"""The whole stack on this run's servers: for what only all services together show."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from deploy.demo.stage import MAIL_SENDER, SLACK_EVERYBODY, Stage
from deploy.embedded.ports import LOOPBACK, free_port
from deploy.embedded.stack import Additions, running_stack
from deploy.embedded.state import State
from tests.bench.lab import Lab
from tests.support.mail_server import MailServer
from tests.support.slack_server import TOKEN, SlackServer
from tests.support.stack import fresh_database

Variables = Mapping[str, Mapping[str, str]]
NOTHING_MORE: Variables = {}


@asynccontextmanager
async def whole(
    lab: Lab,
    slack: SlackServer,
    *,
    channels: Mapping[str, str],
    more: Variables = NOTHING_MORE,
) -> AsyncIterator[Stage]:
    """All services, one consumer process each, on a database and topics of their own.

    channels: Slack channel by team. more: further variables by service.
    """
    async with (
        lab.topics() as prefix,
        fresh_database(lab.servers.postgres_url) as database,
        MailServer(port=free_port()) as mail,
    ):
        told = {name: dict(variables) for name, variables in more.items()}
        for service in ("ingest", "metrics", "commissions", "notifications"):
            told.setdefault(service, {})[f"ATTAIN_{service.upper()}_LOG_LEVEL"] = "warning"
        told["notifications"] |= _ways_out(slack, mail, channels)
        servers = {
            "DATABASE_URL": database,
            "ATTAIN_KAFKA_BOOTSTRAP": lab.bootstrap,
            "ATTAIN_TOPIC_PREFIX": prefix,
        }
        state = State(lab.folder / prefix.rstrip("."))
        async with running_stack(
            state,
            lambda _line: None,
            environment=servers,
            additions=Additions(variables=lambda _ports: told),
        ) as stack:
            yield Stage(stack, state.root / "no-mails", state.root / "no-messages")


def _ways_out(slack: SlackServer, mail: MailServer, channels: Mapping[str, str]) -> dict[str, str]:
    prefix = "ATTAIN_NOTIFICATIONS_"
    return {
        f"{prefix}SMTP_HOST": LOOPBACK,
        f"{prefix}SMTP_PORT": str(mail.port),
        f"{prefix}SMTP_SECURITY": "none",
        f"{prefix}MAIL_SENDER": MAIL_SENDER,
        f"{prefix}SLACK_TOKEN": TOKEN,
        f"{prefix}SLACK_BASE_URL": slack.api_url,
        f"{prefix}ALLOW_INSECURE_SLACK_BASE_URL": "true",
        f"{prefix}SLACK_CHANNELS": json.dumps(dict(channels)),
        f"{prefix}SLACK_DEFAULT_CHANNEL": SLACK_EVERYBODY,
    }


def port_of(stage: Stage, service: str) -> int:
    """The port of a service's API."""
    return int(stage.url(service).rpartition(":")[2])
