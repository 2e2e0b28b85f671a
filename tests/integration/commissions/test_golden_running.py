"""Every golden case through the running system: facts by Kafka, figures by HTTP, to the cent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from services.commissions.domain.periods import parse_period
from services.commissions.rebuild import rebuild_all
from shared.clock import parse_instant, to_text
from shared.events.envelope import Envelope
from shared.http.auth import Role
from tests.integration.commissions.system import (
    System,
    deal,
    fact,
    kpi_event,
    quota_event,
    rows,
    running,
    score_event,
)
from tests.unit.commissions.history import EVERYTHING, Step, arrivals, golden_cases

DEAL = "crm:main:"
FALLS = {"negative_rate", "falling_rate", "falling_border"}
ORDERS = 4
"""At most so many orders of arrival of one case: the pure engine is given every one."""


def closes(case: Step) -> bool:
    return any("close" in step for step in case["steps"])


CASES = list(golden_cases(EVERYTHING))
CLOSING = [case for case in CASES if closes(case[2])]


@dataclass
class Runner:
    """One case in one order of arrival, under names of its own."""

    prefix: str
    name: str
    documents: Mapping[str, Any]
    case: Step
    steps: list[Step]
    revisions: dict[str, int] = field(default_factory=dict)
    totals: dict[tuple[str, str, str], Decimal] = field(default_factory=dict)

    def mine(self, name: str) -> str:
        return self.prefix + name

    def deal_id(self, name: str) -> str:
        return DEAL + self.prefix + name

    def plain(self, name: str | None) -> str | None:
        return None if name is None else name.removeprefix(DEAL).removeprefix(self.prefix)

    async def begin(self, system: System) -> None:
        numbers: dict[str, int] = {}
        for name in self.case["plans"]:
            document = dict(self.documents[name])
            document["id"] = self.mine(document["id"])
            if "fx" in document:
                document["fx"] = {
                    use: {**named, "table": self.mine(named["table"])}
                    for use, named in document["fx"].items()
                }
            number = numbers[document["id"]] = numbers.get(document["id"], 0) + 1
            answer = await system.put_plan(document, number)
            assert answer.status_code == 201, answer.text
        for place, entry in enumerate(self.case["assignments"]):
            body = {**entry, "payee": self.mine(entry["payee"]), "plan": self.mine(entry["plan"])}
            answer = await system.assign(f"{self.prefix}{place}", **body)
            assert answer.status_code == 201, answer.text
        await system.send(
            fact(
                "person",
                self.mine(member),
                "2024-01-01T00:00:00Z",
                {"manager": self.mine(manager), "effective_from": "2024-01-01"},
            )
            for member, manager in self.case.get("managers", {}).items()
        )
        await system.send(map(self.quota, self.case.get("quotas", [])))
        await system.send(map(self.rate, self.case.get("rates", [])))

    def quota(self, said: Step) -> Envelope:
        period = parse_period(said["period"])
        quota = f"{self.mine(said['payee'])}-{said['measure']}-{said['period']}"
        self.revisions[quota] = self.revisions.get(quota, 0) + 1
        return quota_event(
            quota,
            self.revisions[quota],
            {
                "person": self.mine(said["payee"]),
                "measure": said["measure"],
                "period": said["period"],
                "start": period.start.isoformat(),
                "end": period.end.isoformat(),
                "amount": said["amount"],
                "method": said.get("method", "stated"),
            },
        )

    def rate(self, said: Step) -> Envelope:
        table = self.mine(said["table"])
        row = {"table": table, "from": said["from"], "to": said["to"], "day": said["date"]}
        rate_id = f"{table}:{said['from']}:{said['to']}:{said['date']}"
        return fact("rate", rate_id, "2025-01-01T00:00:00Z", {**row, "rate": said["rate"]})

    def next_revision(self, of: str) -> int:
        self.revisions[of] = self.revisions.get(of, 0) + 1
        return self.revisions[of]

    def kpi(self, said: Step) -> Envelope:
        person = self.mine(said["payee"])
        revision = self.next_revision(f"{person}-{said['kpi']}-{said['day']}")
        return kpi_event(person, said["kpi"], said["day"], said["value"], revision)

    def score(self, said: Step) -> Envelope:
        person, at = self.mine(said["payee"]), said["at"]
        revision = self.next_revision(f"{person}-{said['objective']}-{at}")
        score = str(Decimal(said["score"].removesuffix("%")).scaleb(-2))
        return score_event(person, said["objective"], at[:7], score, at, revision)

    def event(self, step: Step) -> Envelope:
        if "rate" in step:
            return self.rate(step["rate"])
        if "quota" in step:
            return self.quota(step["quota"])
        if "kpi" in step:
            return self.kpi(step["kpi"])
        if "score" in step:
            return self.score(step["score"])
        kind, said = next(iter(step.items()))
        stated = {k: self.here(k, v) for k, v in said.items() if k not in {"id", "at"}}
        if kind == "deal":
            return deal(self.deal_id(said["id"]), said["at"], **stated)
        return fact(kind, self.deal_id(said["id"]), said["at"], stated)

    def here(self, name: str, value: Any) -> Any:  # noqa: ANN401 - as in the file
        """A field's value under this runner's names, in the form facts have."""
        if name in {"closed_at", "issued_at", "received_at", "completed_at"}:
            return to_text(parse_instant(value))
        if name in {"splits", "overlays"}:
            return {self.mine(member): share for member, share in value.items()}
        if name == "owner":
            return self.mine(value)
        return self.deal_id(value) if name in {"deal", "invoice", "credit_note_of"} else value

    async def expect(self, system: System, wanted: Step) -> None:
        for entry in wanted.get("statements", []):
            await self.same_statement(system, entry)
        if "capitalised" in wanted:
            await self.same_costs(system, wanted["capitalised"])
        if "credits" in wanted:
            await self.same_credits(system, wanted["credits"])
        if "bookings" in wanted:
            await self.same_bookings(system, wanted["bookings"])
        if "exceptions" in wanted:
            await self.same_exceptions(system, wanted["exceptions"])
        for entry in wanted.get("lint", []):
            await self.same_lint(system, entry)

    async def same_lint(self, system: System, wanted: Step) -> None:
        async with system.client(Role.COMP_ADMIN) as admin:
            answer = await admin.post("/v1/plans/lint", json=self.documents[wanted["plan"]])
        assert answer.status_code == 200, answer.text
        found = [f for f in answer.json()["findings"] if f["code"] in FALLS]
        assert [f["code"] for f in found] == wanted["falls"]
        if "figure" in wanted:
            assert Decimal(found[0]["figure"]) == Decimal(wanted["figure"])

    async def same_statement(self, system: System, wanted: Step) -> None:
        place = (self.mine(wanted["payee"]), self.mine(wanted["plan"]), wanted["period"])
        found = await system.statement(*place, view="recomputed")
        own = Decimal(found["own"])
        if "lines" in wanted:
            assert [
                (self.plain(line["deal"]), line["kind"], Decimal(line["amount"]))
                for line in found["lines"]
            ] == [
                (entry.get("deal"), entry.get("kind", "credit"), Decimal(entry["amount"]))
                for entry in wanted["lines"]
            ]
            await self.same_true_ups(system, place, found, wanted["lines"])
        amounts = {
            "total": own,
            "difference": Decimal(found["difference"]),
            "carry": Decimal(found["carry_out"]),
            "payable": Decimal(found["payable"]),
            "held_pay": Decimal(found["held_pay"]),
            "draw_balance": Decimal(found["draw"]["balance_out"] if found["draw"] else 0),
            "change": own - self.totals.get(place, Decimal(0)),
        }
        for name, amount in amounts.items():
            if name in wanted:
                assert amount == Decimal(wanted[name]), name
        if "corrects" in wanted:
            assert sorted({c["period"] for c in found["corrects"]}) == wanted["corrects"]
        if "payout" in wanted:
            text = wanted["payout"]["amount"]
            paid = found["payout"]["amount"]
            assert found["payout"]["currency"] == wanted["payout"]["currency"]
            assert (None if paid is None else Decimal(paid)) == (
                None if text is None else Decimal(text)
            )
        if "held" in wanted:
            assert [
                (self.plain(h["deal"]), Decimal(h["amount"]), h["currency"]) for h in found["held"]
            ] == [(h["deal"], Decimal(h["amount"]), h["currency"]) for h in wanted["held"]]
        if "as_closed" in wanted:
            closed = await system.statement(*place)
            assert closed["state"] == "closed"
            assert Decimal(closed["own"]) == Decimal(wanted["as_closed"]["total"])
            assert Decimal(closed["payable"]) == Decimal(wanted["as_closed"]["payable"])
        self.totals[place] = own

    async def same_true_ups(
        self, system: System, place: tuple[str, str, str], found: Step, wanted: list[Step]
    ) -> None:
        async with system.client(Role.AUDITOR) as auditor:
            for entry, line in zip(wanted, found["lines"], strict=True):
                answer = await auditor.get(
                    f"/v1/statements/{'/'.join(place)}/lines/{line['key']}/explanation"
                )
                assert answer.status_code == 200, answer.text
                tree = answer.json()
                assert Decimal(tree["amount"]) == Decimal(line["amount"])
                assert tree["sentence"]
                if "true_up" in entry:
                    assert Decimal(tree["rates"]["true_up"]) == Decimal(entry["true_up"])

    async def same_costs(self, system: System, wanted: list[Step]) -> None:
        found = {}
        async with system.client(Role.FINANCE) as finance:
            answer = await finance.get("/v1/capitalised-costs", params={"limit": 500})
            assert answer.status_code == 200, answer.text
        for account in answer.json()["data"]:
            found[account["payee"], account["plan"]] = account["contracts"]
        for entry in wanted:
            (contract,) = found[self.mine(entry["payee"]), self.mine(entry["plan"])]
            months = contract["months"]
            assert self.plain(contract["deal"]) == entry["deal"]
            assert Decimal(contract["cost"]) == Decimal(entry["cost"])
            assert len(months) == entry["months"]
            for name, place in (("first", 0), ("last", -1)):
                assert months[place]["month"] == entry[name]["month"]
                assert Decimal(months[place]["amortised"]) == Decimal(entry[name]["amortised"])
            written_off = sum(Decimal(month["written_off"]) for month in months)
            assert written_off == Decimal(entry["written_off"])

    async def same_credits(self, system: System, wanted: list[Step]) -> None:
        found = await rows(
            system, "SELECT * FROM credit WHERE starts_with(plan_id, $1)", self.prefix
        )
        assert len(found) == len(wanted)
        for entry in wanted:
            credit = next(
                c
                for c in found
                if c["payee"] == self.mine(entry["payee"])
                and self.plain(c["deal_id"]) == entry["deal"]
                and f"/{entry.get('component', '')}" in c["key"]
            )
            assert (credit["original"], credit["currency"]) == (
                Decimal(entry["amount"]),
                entry["currency"],
            )
            if "credited" in entry:
                assert credit["converted"] == Decimal(entry["credited"])

    async def same_bookings(self, system: System, wanted: Step) -> None:
        found = await rows(
            system,
            "SELECT deal_id, sum(original) AS amount FROM credit WHERE starts_with(plan_id, $1) "
            "AND document->>'to' <> 'overlays' GROUP BY deal_id",
            self.prefix,
        )
        assert {self.plain(r["deal_id"]): r["amount"] for r in found} == {
            name: Decimal(amount) for name, amount in wanted.items()
        }

    async def same_exceptions(self, system: System, wanted: list[Step]) -> None:
        async with system.client(Role.FINANCE) as finance:
            items = (await finance.get("/v1/periods/2025/checklist")).json()["items"]
        found = {
            (item["kind"], self.plain(item["deal"]), self.plain(item["payee"]))
            for item in items
            # A member who is on no plan is told of whichever plan comes first, here another's.
            if all(self.prefix in named for named in (item["plan"], item["deal"]) if named)
        }
        assert found == {(e["kind"], e.get("deal"), e.get("payee")) for e in wanted}


def runners() -> Iterator[Runner]:
    number = 0
    for name, documents, case in CASES:
        if not closes(case):
            orders = list(arrivals(case))
            for steps in orders[:: -(-len(orders) // ORDERS)]:
                number += 1
                yield Runner(f"c{number:03d}-", name, documents, case, steps)


async def test_golden_cases_side_by_side(
    database: str, kafka_bootstrap: str, topic_prefix: str
) -> None:
    """All cases that close nothing, each in some of the orders it asks for, in one company.

    Two consumers work side by side; and what they made step by step is what a rebuild makes.
    """
    worlds = list(runners())
    async with running(database, kafka_bootstrap, topic_prefix, workers=2) as system:
        await asyncio.gather(*(world.begin(system) for world in worlds))
        await system.drain()
        failed = []
        for place in range(max(len(world.steps) for world in worlds)):
            due = [(world, world.steps[place]) for world in worlds if place < len(world.steps)]
            await system.send(world.event(step) for world, step in due if "expect" not in step)
            if any("expect" in step for _, step in due):
                await system.drain()
            for world, step in due:
                if "expect" in step:
                    try:
                        await world.expect(system, step["expect"])
                    except AssertionError as error:
                        failed.append(f"{world.name}: {error}")
        assert not failed, "\n\n".join(failed)
        report = await rebuild_all(system.settings)
        assert (report.differing, report.posted) == ([], 0)


@pytest.mark.parametrize(("name", "documents", "case"), CLOSING, ids=[c[0] for c in CLOSING])
async def test_golden_case_with_closes(  # noqa: PLR0913, PLR0917 - fixtures and a case
    database_factory: Any,  # noqa: ANN401 - a fixture
    kafka_bootstrap: str,
    topic_prefix: str,
    name: str,
    documents: Mapping[str, Any],
    case: Step,
) -> None:
    """A close is everybody's, so each of these cases is a company of its own."""
    url = await database_factory()
    async with running(url, kafka_bootstrap, topic_prefix) as system:
        world = Runner("c-", name, documents, case, case["steps"])
        await world.begin(system)
        for step in world.steps:
            if "close" in step:
                answer = await system.close(step["close"]["period"])
                assert answer.status_code == 200, answer.text
            elif "expect" in step:
                await system.drain()
                await world.expect(system, step["expect"])
            else:
                await system.send([world.event(step)])
