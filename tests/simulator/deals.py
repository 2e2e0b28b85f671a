"""The life of a deal: created, moved through stages with human delays, won, lost, or forgotten.

Lives are written in time order along working hours. What a life may meet on its way (a merge, a
deletion, a second thought after the win) is chosen beforehand as its fate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date, time, timedelta
from random import Random

from tests.simulator.history import Change, Deal, Value
from tests.simulator.people import LEAVER, SUCCESSOR, TENANT, Rep, Staff
from tests.simulator.reference import LEGAL, LOST, OPEN_STAGES, PIPELINE, WON, quarters
from tests.simulator.worktime import FAR_MS, HOUR_MS, local_day, local_ms, work_clock

FATES = {
    "plain": 0.62,
    "stalled": 0.06,
    "splits": 0.08,
    "overlays": 0.06,
    "lost_zeroed": 0.03,
    "backward": 0.03,
    "corrected": 0.04,
    "quarter_end": 0.03,
    "signed": 0.02,
    "merged": 0.015,
    "merged_into_third": 0.008,
    "deleted": 0.012,
    "restored": 0.01,
    "late_splits": 0.015,
    "reopened_in_grace": 0.025,
    "reopened_beyond_grace": 0.02,
    "reopened_then_lost": 0.012,
    "owner_after_win": 0.02,
    "deleted_after_win": 0.012,
    "restored_after_win": 0.008,
    "double_booking": 0.012,
    "lost_reopened": 0.015,
    "pushed_twice": 0.04,
}
"""What may happen to a deal, with its weight. Most fates show only if the deal gets that far."""

LOSING_FATES = frozenset({"lost_zeroed", "lost_reopened"})
SPLIT_FATES = frozenset({"splits", "late_splits"})
FORCED = (*(fate for fate in FATES if fate != "plain"), "handed_over", "split_handed_over")
"""The first deals of a company meet each fate for certain, so that no small company lacks one."""

MEDIAN_HOURS = (12.0, 30.0, 42.0, 38.0, 34.0)
"""Working hours that a deal stays in each open stage."""

ADVANCE = (0.75, 0.80, 0.83, 0.86, 0.90)
"""The odds that a deal leaves each stage forwards, for an average rep."""

SHARES: tuple[tuple[str, ...], ...] = (("50%", "50%"), ("60%", "40%"), ("70%", "30%"))
THIRDS = ("1/3", "1/3", "1/3")
SPLIT_STEP = 300
"""Amounts of shared deals are multiples of this: any of the shares above is then exact."""

NEXT_STEPS = ("Send pricing", "Call the sponsor", "Book the demo", "Security review", None)
LOST_REASONS = ("price", "competitor", "no decision", "timing", "missing feature")
MINUTE_MS = 60_000
FIRST_CLOSE_SPREAD_HOURS = 80.0


@dataclass(frozen=True, slots=True)
class World:
    """What every life needs to know. opens_ms: before it nothing is won or lost."""

    year: int
    staff: Staff
    opens_ms: int
    first_id: int = 30_714_000_000

    def deal_id(self, number: int, sibling: int = 0) -> str:
        """The id of a deal; siblings are its duplicate and what a merge makes of both."""
        return f"{TENANT}:{self.first_id + number * 10 + sibling}"


class Life:
    """One deal, and the duplicates that it meets."""

    def __init__(self, rng: Random, world: World, number: int, rep: Rep, begins_ms: int) -> None:
        self.rng = rng
        self.world = world
        self.number = number
        self.now = begins_ms
        self.clock = work_clock(world.year, rep.zone)
        self.rep = rep
        self.owner = rep
        self.deal = Deal(world.deal_id(number), [])
        self.others: list[Deal] = []
        self.current: dict[str, Value] = {}
        self.created_ms = begins_ms
        self.fate = "plain"
        self.forced = False
        self.met = False
        self.gone = False

    def live(self, fate: str, *, forced: bool) -> list[Deal]:
        """Write the whole life. The deals it made: itself, and duplicates."""
        self.fate, self.forced = fate, forced
        self._create()
        outcome = self._pursue()
        if outcome == "won":
            self._win()
            self._after_win()
        elif outcome == "lost":
            self._lose()
            self._after_loss()
        if self._is_open:
            self._until(FAR_MS)
        return [self.deal, *self.others]

    # Statements

    def _say(self, field: str, value: Value) -> None:
        if field in self.current and self.current[field] == value:
            return
        while self._said_now(field):
            self.now += MINUTE_MS
        self.current[field] = value
        self.deal.changes.append(Change(self.now, field, value))

    def _said_now(self, field: str) -> bool:
        for change in reversed(self.deal.changes):
            if change.at_ms < self.now:
                return False
            if change.field == field:
                return True
        return False

    def _wait(self, hours: float) -> None:
        self._until(self.clock.later(self.now, hours * self.rng.uniform(0.98, 1.02)))

    def _until(self, at_ms: int) -> None:
        """Let time pass; if the owner leaves meanwhile, the open deal is handed over then."""
        leaves_ms = self.world.staff.leaves_ms
        if self.now < leaves_ms <= at_ms and self._is_open:
            self.now = leaves_ms + self.rng.randrange(30 * MINUTE_MS)
            self._hand_over()
        self.now = max(at_ms, self.now + 1)

    @property
    def _is_open(self) -> bool:
        return not self.gone and self.current.get("stage") not in {WON, LOST}

    def _hand_over(self) -> None:
        if self.owner.person == LEAVER and self.now >= self.world.staff.leaves_ms:
            self._give_to(self.world.staff.rep(SUCCESSOR))

    def _give_to(self, rep: Rep) -> None:
        before, self.owner = self.owner, rep
        self._say("owner", rep.identity)
        splits = self.current.get("splits")
        if isinstance(splits, dict) and before.person in splits and rep.person not in splits:
            renamed = {
                (rep.person if who == before.person else who): s for who, s in splits.items()
            }
            self.now += MINUTE_MS
            self._say("splits", renamed)

    # Stages

    def _create(self) -> None:
        rng = self.rng
        closes = local_day(self.now) + timedelta(days=rng.randrange(30, 75))
        currency = "USD"
        if rng.random() < (0.8 if self.rep.zone != "America/New_York" else 0.05):
            currency = "EUR"
        size = rng.lognormvariate(9.9, 0.7) * math.sqrt(self.rep.strength)
        unpriced = not self.forced and rng.random() < 0.08
        fields: dict[str, Value] = {
            "name": f"Deal {self.number}",
            "pipeline": PIPELINE,
            "stage": OPEN_STAGES[0],
            "amount": None if unpriced else self._money(size),
            "currency": currency,
            "close_date": closes.isoformat(),
            "owner": self.owner.identity,
            "type": "new" if rng.random() < 0.75 else "expansion",
            "created_at": self.now,
        }
        for field, value in fields.items():
            if value is not None:
                self._say(field, value)

    def _money(self, amount: float) -> str:
        """A price as people write it: mostly round, sometimes to the cent."""
        if self.fate in SPLIT_FATES or self.fate == "split_handed_over":
            return str(max(1, round(amount / SPLIT_STEP)) * SPLIT_STEP)
        style = self.rng.random()
        if style < 0.6:
            return f"{max(1, round(amount / 100)) * 100}"
        cents = max(100, int(amount * 100))
        return f"{cents // 100}.50" if style < 0.75 else f"{cents // 100}.{cents % 100:02d}"

    def _pursue(self) -> str:
        """Move through the stages. Returns won, lost or open (forgotten, deleted, merged)."""
        rng = self.rng
        position = 0
        while True:
            self._wait(self._delay(position))
            if self.fate == "stalled" and position >= 2:
                return "open"
            self._drift()
            if position >= 1 and not self.met:
                self.met = True
                position = self._meet_fate(position)
                if self.gone:
                    return "open"
            if self._loses(position):
                return "lost"
            position += 2 if rng.random() < 0.06 else 1
            if position >= len(OPEN_STAGES):
                break
            self._say("stage", OPEN_STAGES[position])
        legal_from_ms = local_ms(date(self.world.year, 7, 2), time(9))
        if self.now > legal_from_ms and rng.random() < 0.25:
            self._say("stage", LEGAL)
            self._wait(20)
        return "won"

    def _delay(self, position: int) -> float:
        if self.forced:
            pace = 1.2 if self.rep.person == LEAVER else 0.45
            return MEDIAN_HOURS[position] * self.rng.uniform(0.7, 1.3) * pace
        pace = 1 / math.pow(self.rep.strength, 0.3)
        return MEDIAN_HOURS[position] * self.rng.lognormvariate(0, 0.7) * pace

    def _loses(self, position: int) -> bool:
        if self.forced:
            return self.fate in LOSING_FATES and position >= 2
        return self.rng.random() > ADVANCE[position] * math.pow(self.rep.strength, 0.15)

    def _drift(self) -> None:
        """What changes besides the stage: price, close date, next step, rarely the owner."""
        rng = self.rng
        amount = self.current.get("amount")
        if amount is None:
            self._say("amount", self._money(rng.lognormvariate(9.9, 0.7)))
        elif rng.random() < 0.25:
            self._say("amount", self._money(float(str(amount)) * rng.uniform(0.8, 1.25)))
        self._move_close_date()
        self._say("next_step", rng.choice(NEXT_STEPS))
        if rng.random() < 0.02 and self.owner.person != LEAVER:
            self._give_to(self._colleague())

    def _move_close_date(self) -> None:
        rng = self.rng
        today = local_day(self.now)
        closes = date.fromisoformat(str(self.current["close_date"]))
        late = closes < today and rng.random() < 0.7
        if late or self.fate == "pushed_twice" or rng.random() < 0.25:
            closes = max(closes, today) + timedelta(days=rng.randrange(7, 35))
        elif rng.random() < 0.06:
            closes = max(today, closes - timedelta(days=rng.randrange(3, 12)))
        self._say("close_date", closes.isoformat())

    def _meet_fate(self, position: int) -> int:
        match self.fate:
            case "splits" | "split_handed_over":
                self._split()
            case "overlays":
                share = self.rng.choice(("25%", "50%"))
                self._say("overlays", {self._colleague().person: share})
            case "backward":
                self._say("stage", OPEN_STAGES[position - 1])
                return position - 1
            case "deleted":
                self._delete()
            case "restored":
                self._delete()
                self._wait(self.rng.uniform(6, 40))
                self._restore()
            case "merged" | "merged_into_third":
                self._merge()
            case _:
                pass
        return position

    def _colleague(self) -> Rep:
        """Another rep: mostly of the same team; never the one who leaves."""
        taken = {self.owner.person, LEAVER}
        if self.owner.person == LEAVER:
            taken.add(SUCCESSOR)  # who will take the leaver's part, so cannot have one already
        near = self.rng.random() < 0.85
        reps = [
            rep
            for rep in self.world.staff.reps
            if rep.person not in taken and (rep.team == self.owner.team) is near
        ]
        return self.rng.choice(reps)

    def _split(self) -> None:
        shares = THIRDS if self.rng.random() < 0.2 else self.rng.choice(SHARES)
        members = [self.owner.person]
        while len(members) < len(shares):
            person = self._colleague().person
            if person not in members:
                members.append(person)
        self._say("splits", dict(zip(members, shares, strict=True)))

    # Ends, and what comes after them

    def _win(self) -> None:
        self._close_in_year()
        if self.fate == "quarter_end":
            self._wait_for_quarter_end()
        self._hand_over()
        self._say("stage", WON)
        self._say("close_date", local_day(self.now).isoformat())

    def _lose(self) -> None:
        self._close_in_year()
        self._say("stage", LOST)
        self._say("lost_reason", self.rng.choice(LOST_REASONS))
        self._say("close_date", local_day(self.now).isoformat())

    def _close_in_year(self) -> None:
        if self.now < self.world.opens_ms:
            self.now = self.world.opens_ms
            self._wait(self.rng.uniform(0.1, FIRST_CLOSE_SPREAD_HOURS))

    def _wait_for_quarter_end(self) -> None:
        """The last evening of the quarter, when it is already tomorrow in UTC."""
        today = local_day(self.now)
        for _, _, end in quarters(self.world.year):
            last = end - timedelta(days=1)
            if today < last and (self.forced or (last - today).days < 45):
                evening = local_ms(last, time(22)) + self.rng.randrange(118 * MINUTE_MS)
                self._until(evening)
                return

    def _after_win(self) -> None:
        """Reopenings and removals; corrections stand below."""
        rng = self.rng
        match self.fate:
            case "reopened_in_grace":
                self._reopen(rng.uniform(1, 30))
                self.now += int(rng.uniform(1, 20) * HOUR_MS)
                self._say("stage", WON)
            case "reopened_beyond_grace":
                self._reopen(rng.uniform(4, 60))
                self._wait(rng.uniform(30, 80))
                self._win()
            case "reopened_then_lost":
                self._reopen(rng.uniform(20, 90))
                self._wait(rng.uniform(30, 80))
                self._lose()
            case "deleted_after_win":
                self._wait(rng.uniform(8, 100))
                self._delete()
            case "restored_after_win":
                self._wait(rng.uniform(8, 100))
                self._delete()
                self._wait(rng.uniform(6, 40))
                self._restore()
            case "double_booking":
                self._double_booking()
            case _:
                self._correct()

    def _correct(self) -> None:
        """What is put right about a deal that stays won."""
        rng = self.rng
        match self.fate:
            case "corrected":
                self._wait(rng.uniform(8, 150))
                amount = float(str(self.current["amount"]))
                self._say("amount", self._money(amount * rng.choice((0.75, 0.9, 1.1, 1.2))))
            case "signed":
                self.now += int(rng.uniform(1, 30) * HOUR_MS)
                signed_ms = self.now
                self.now += rng.randrange(MINUTE_MS, HOUR_MS)
                self._say("closed_at", signed_ms)
            case "owner_after_win":
                self._wait(rng.uniform(10, 150))
                self._give_to(self._colleague())
            case "late_splits":
                self._wait(rng.uniform(3, 40))
                self._split()
            case _:
                pass

    def _reopen(self, hours: float) -> None:
        self._wait(hours)
        self._say("stage", OPEN_STAGES[-1])
        self._hand_over()

    def _after_loss(self) -> None:
        rng = self.rng
        if self.fate == "lost_zeroed":
            if rng.random() < 0.5:  # else in the same save as the loss
                self.now += rng.randrange(MINUTE_MS, 30 * MINUTE_MS)
            self._say("amount", "0")
        elif self.fate == "lost_reopened":
            self._reopen(rng.uniform(40, 120))
            self._say("lost_reason", None)
            self._wait(rng.uniform(20, 60))
            if self.forced or rng.random() < 0.5:
                self._win()
            else:
                self._lose()

    # Deletions and merges

    def _delete(self) -> None:
        self._say("deleted", value=True)
        self.gone = True

    def _restore(self) -> None:
        self._say("deleted", value=False)
        self.gone = False
        if self._is_open:
            self._hand_over()

    def _merge(self) -> None:
        """A colleague has entered the same deal; both become one, at times under a third id."""
        twin = self._twin(OPEN_STAGES[0], self.now - self.rng.randrange(1, 40) * HOUR_MS)
        self.others.append(twin)
        if self.fate == "merged":
            twin.changes.append(Change(self.now, "merged_into", self.deal.id))
            return
        old, survivor = self.deal, Deal(self.world.deal_id(self.number, 2), [])
        for merged in (old, twin):
            merged.changes.append(Change(self.now, "merged_into", survivor.id))
        self.others.append(old)
        self.deal = survivor
        fields, self.current = self.current, {}
        for field, value in fields.items():
            if field != "created_at" and value is not None:
                self._say(field, value)
        self.now += 1000  # later than the creation that the CRM announces for the survivor
        self._say("created_at", self.created_ms)

    def _double_booking(self) -> None:
        """The deal was won twice over, until somebody notices and merges."""
        won_ms = self.now + self.rng.randrange(MINUTE_MS, 5 * HOUR_MS)
        twin = self._twin(WON, won_ms)
        self._until(won_ms)
        self._wait(self.rng.uniform(8, 80))
        twin.changes.append(Change(self.now, "merged_into", self.deal.id))
        self.others.append(twin)

    def _twin(self, stage: str, at_ms: int) -> Deal:
        fields: dict[str, Value] = {
            "name": f"Deal {self.number} (copy)",
            "pipeline": PIPELINE,
            "stage": stage,
            "amount": self.current.get("amount"),
            "currency": self.current["currency"],
            "close_date": self.current["close_date"],
            "owner": self._colleague().identity,
            "type": self.current["type"],
            "created_at": at_ms,
        }
        said = [Change(at_ms, name, value) for name, value in fields.items() if value is not None]
        return Deal(self.world.deal_id(self.number, 1), said)
