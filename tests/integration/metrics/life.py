"""A seeded life of six deals: long, and for tests that need one history rather than many."""

from __future__ import annotations

import random
from typing import Any

from shared.clock import to_text
from shared.events.envelope import Envelope
from tests.integration.metrics.company import PEOPLE, at, company
from tests.integration.metrics.harness import fact
from tests.support.facts import STAGES

DEALS = [f"crm:t:{n}" for n in range(6)]
OWNERS = [*PEOPLE, "crm:t:u-ana", "crm:t:u-ben", "crm:t:nobody"]


def history(seed: int) -> list[Envelope]:
    """A company, and a random life of six deals, their activities and what they are read by."""
    chance = random.Random(seed)
    facts = company()
    for number in range(90):
        when = at(chance.uniform(0, 80))
        deal_id = chance.choice(DEALS)
        facts.append(fact("deal", deal_id, when, tie_break=number, **_said_of_deal(chance)))
    for number in range(25):
        done = at(chance.uniform(0, 80))
        facts += [
            fact(
                "activity",
                f"crm:t:a{number}",
                done,
                tie_break=again,
                **_said_of_activity(chance, to_text(done)),
            )
            for again in range(chance.choice([1, 1, 2]))
        ]
    return facts + _changed_reference(chance)


def _said_of_deal(chance: random.Random) -> dict[str, Any]:
    owner = chance.choice(OWNERS)
    amount = str(chance.randrange(1, 10**6) / 100)
    choices: list[tuple[int, dict[str, Any]]] = [
        (6, {"stage": chance.choice([*STAGES, "unmapped"])}),
        (6, {"stage": "won"}),
        (3, {"stage": "lost", "lost_reason": chance.choice(["Price", "No decision"])}),
        (4, {"owner": owner}),
        (4, {"amount": amount, "currency": chance.choice(["USD", "EUR"])}),
        (2, {"amount": None}),
        (2, {"splits": {"ana": "1/3", owner: "2/3"}, "complete": ["splits"]}),
        (1, {"splits": {"ana": "50%", "ben": None}}),
        (1, {"overlays": {"mia": "10%"}}),
        (2, {"close_date": f"2026-0{chance.randrange(1, 6)}-15"}),
        (1, {"closed_at": to_text(at(chance.uniform(0, 80)))}),
        (1, {"created_at": to_text(at(0))}),
        (1, {"account": "acme"}),
        (2, {"deleted": chance.choice([True, False])}),
        (3, {"merged_into": chance.choice([*DEALS, None, None])}),
    ]
    weights = [weight for weight, _ in choices]
    return chance.choices(choices, weights)[0][1]


def _said_of_activity(chance: random.Random, done: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        "kind": chance.choice(["call", "meeting"]),
        "owner": chance.choice(OWNERS),
        "deal": chance.choice([*DEALS, None]),
        "completed_at": chance.choice([done, None]),
        "due_at": done,
        "participants": {chance.choice(list(PEOPLE)): True, "them:1": True},
    }
    if chance.random() < 0.2:
        said["cancelled"] = True
    return said


def _changed_reference(chance: random.Random) -> list[Envelope]:
    stages = {**STAGES, "unmapped": {"order": 9, "status": "won"}}
    moved: dict[str, Any] = {"effective_from": "2026-02-01", "identities": {"crm:t:u-ana": True}}
    return [
        fact("stage_map", "crm:t:default", at(30), effective_from="2026-02-10", stages=stages),
        fact("person", "ben", at(31), **moved),
        fact(
            "person", "dan", at(33), effective_from="2026-01-01", identities={"crm:t:nobody": True}
        ),
        fact("calendar", "org", at(32), effective_from="2025-01-01", time_zone="Pacific/Auckland"),
        fact("account", "acme", at(chance.uniform(0, 9)), name="Acme", segment="enterprise"),
    ]
