"""The committed contracts of the services: OpenAPI of each one's HTTP, AsyncAPI of the topics.

python -m deploy.contracts           writes docs/api/*.json
python -m deploy.contracts --check   exits 1 where a committed file differs from the code
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from services.commissions import api as commissions
from services.commissions.consumer import SUBSCRIPTION as COMMISSIONS_READS
from services.ingest import api as ingest
from services.ingest.settings import IngestSettings
from services.metrics import api as metrics
from services.metrics.consumer import SUBSCRIPTION as METRICS_READS
from services.notifications import api as notifications
from services.notifications.consumer import SUBSCRIPTION as NOTIFICATIONS_READS
from shared.events.catalogue import PARTITIONS, RECORD_KINDS
from shared.events.schemas import EVENT_TYPES
from shared.http.app import create_app
from shared.http.tokens import KeyFile, KeyRing, TokenVerifier
from shared.http.version import installed_version
from shared.telemetry.catalogue import Telemetry

DIRECTORY = Path(__file__).resolve().parents[1] / "docs" / "api"

ROUTERS: Mapping[str, Sequence[APIRouter]] = {
    "ingest": ingest.routers(
        max_events_bytes=IngestSettings.model_fields["max_events_bytes"].default
    ),
    "metrics": metrics.ROUTERS,
    "commissions": commissions.ROUTERS,
    "notifications": notifications.ROUTERS,
}

READS = {
    "metrics": METRICS_READS,
    "commissions": COMMISSIONS_READS,
    "notifications": NOTIFICATIONS_READS,
}


def openapi(service: str) -> dict[str, Any]:
    """The OpenAPI document of one service, as its `/openapi.json` serves it."""
    keys = KeyRing(KeyFile(Path("/nonexistent")))
    app = create_app(
        title=f"Attain {service}",
        service=service,
        routers=ROUTERS[service],
        verifier=TokenVerifier(keys, issuer="-", audience="-"),
        readiness={},
        telemetry=Telemetry(service),
    )
    return app.openapi()


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3 document: topics, what travels on them, who sends and who receives."""
    types = {kind.type: kind.topic for kind in RECORD_KINDS.values()}
    types |= {event.type: event.topic for event in EVENT_TYPES.values()}
    channels: dict[str, Any] = {
        topic: {
            "address": topic,
            "messages": {
                name: {"$ref": f"#/components/messages/{name}"}
                for name, where in sorted(types.items())
                if where == topic
            },
            "bindings": {"kafka": {"topic": topic, "partitions": partitions}},
        }
        for topic, partitions in PARTITIONS.items()
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Attain topics",
            "version": installed_version(),
            "description": "CloudEvents 1.0 in structured JSON; the key is the subject. Every "
            "topic name may carry the deployment's prefix.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": channels,
        "operations": dict(_operations()),
        "components": {
            "messages": {
                name: {
                    "name": name,
                    "payload": {"$ref": f"../../shared/events/schemas/{name}.json"},
                }
                for name in sorted(types)
            }
        },
    }


def _operations() -> Iterator[tuple[str, Any]]:
    for topic in PARTITIONS:
        owner = "ingest" if topic.startswith("crm.") else topic.partition(".")[0]
        channel = {"$ref": f"#/channels/{topic}"}
        yield f"{owner} sends {topic}", {"action": "send", "channel": channel}
    for service, reads in READS.items():
        for topic in reads.topics:
            channel = {"$ref": f"#/channels/{topic}"}
            yield f"{service} receives {topic}", {"action": "receive", "channel": channel}


def committed_files() -> dict[Path, str]:
    """Every contract file and what must stand in it."""
    documents = {f"{service}.openapi": openapi(service) for service in ROUTERS}
    documents["topics.asyncapi"] = asyncapi()
    return {
        DIRECTORY / f"{name}.json": json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        for name, document in documents.items()
    }


def main(arguments: Sequence[str]) -> int:
    """Write the files, or with `--check` compare them; the exit status."""
    if list(arguments) not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)  # noqa: T201 - a command's own answer
        return 2
    wanted = committed_files()
    if arguments:
        differing = [p for p, text in wanted.items() if not p.exists() or p.read_text() != text]
        for path in differing:
            print(f"{path}: not as the code says; run `make schemas`")  # noqa: T201
        return 1 if differing else 0
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
