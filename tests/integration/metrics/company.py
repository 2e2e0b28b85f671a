"""A small company of five for tests: two reps and their manager, another team, a stage map."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from shared.events.envelope import Envelope
from tests.integration.metrics.harness import fact
from tests.support.facts import STAGES

T0 = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
SINCE = "2025-01-01"


def at(days: float = 0, hours: float = 0) -> datetime:
    """The instant that many days and hours after Monday, 5 January 2026, 09:00."""
    return T0 + timedelta(days=days, hours=hours)


PEOPLE: dict[str, dict[str, Any]] = {
    "boss": {"name": "Bo Boss", "teams": {}},
    "mia": {"name": "Mia Manager", "manager": "boss", "teams": {}},
    "ana": {"name": "Ana", "manager": "mia", "teams": {"emea": True}},
    "ben": {"name": "Ben", "manager": "mia", "teams": {"emea": True}},
    "cem": {"name": "Cem", "manager": "boss", "teams": {"us": True}},
}


def company(**calendar: Any) -> list[Envelope]:  # noqa: ANN401 - JSON values
    """People, teams, calendar, a stage map for `crm:t`, and one exchange rate a month."""
    facts = [
        fact(
            "calendar",
            "org",
            T0,
            effective_from=SINCE,
            **{"time_zone": "UTC", "currency": "USD", **calendar},
        ),
        fact("team", "emea", T0, effective_from=SINCE, name="EMEA", manager="mia"),
        fact("team", "us", T0, effective_from=SINCE, name="US", manager="boss"),
        fact("stage_map", "crm:t:default", T0, effective_from=SINCE, stages=STAGES),
    ]
    for person, said in PEOPLE.items():
        identities = {f"crm:t:u-{person}": True}
        facts.append(
            fact("person", person, T0, effective_from=SINCE, identities=identities, **said)
        )
    for day, rate in (("2026-01-01", "1.10"), ("2026-02-01", "1.20")):
        row: dict[str, Any] = {"table": "org", "from": "EUR", "to": "USD", "day": day, "rate": rate}
        facts.append(fact("rate", f"org:EUR:USD:{day}", T0, **row))
    return facts


def deal(number: int, when: datetime, **fields: Any) -> Envelope:  # noqa: ANN401 - JSON values
    """A fact about the deal `crm:t:<number>`."""
    return fact("deal", f"crm:t:{number}", when, **fields)


def won(number: int, when: datetime, owner: str, amount: str, **fields: Any) -> list[Envelope]:  # noqa: ANN401 - JSON values
    """A deal opened ten days before it is won."""
    first = {"stage": "proposal", "owner": owner, "amount": amount, "currency": "USD"}
    opened = when - timedelta(days=10)
    created = opened.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return [
        deal(number, opened, **{**first, "created_at": created, **fields}),
        deal(number, when, stage="won"),
    ]
