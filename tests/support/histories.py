"""Histories of linked records as Hypothesis draws them: small, readable, shrinking to the point.

A story is told in batches: deals that are won, split, merged, deleted and restored, what hangs on
them, facts that arrive after later ones, and reference data that changes between batches. The same
story is told again: permuted, some of it twice, cut elsewhere. Whatever folds and projects must
come to the same, both times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from shared.clock import to_text
from shared.events.catalogue import RECORD_KINDS
from shared.events.envelope import Envelope, encode_data, sequence_of
from shared.events.targets import QuotaData
from shared.facts.fact import Fact, read_fact
from tests.support.facts import STAGES

START = datetime(2025, 11, 20, 23, 30, tzinfo=UTC)
"""Day 0. Late in the day, so that another zone is another date; a year ends on day 41."""

LAST_DAY = 60
SINCE = "2025-01-01"
PEOPLE = ("ana", "ben", "cem")
OWNERS = ("ana", "crm:t:u-ana", "ben", "crm:t:u-ben", "cem", "crm:t:nobody")
DEALS = tuple(f"crm:t:d{number}" for number in range(4))
REFERENCE_KINDS = frozenset({"person", "team", "calendar", "stage_map", "rate", "account"})


@dataclass(frozen=True, slots=True)
class Said:
    """What a source states of a record on a day; equal statements are one event."""

    kind: str
    record: str
    day: int
    fields: Mapping[str, Any]
    tie: int = 0

    def __repr__(self) -> str:
        stated = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        again = f"+{self.tie}" if self.tie else ""
        return f"{self.kind} {self.record} day {self.day}{again}: {stated}"

    @property
    def sequence(self) -> tuple[int, int]:
        """Which of two statements is the later one."""
        return (self.day, self.tie)

    @property
    def envelope(self) -> Envelope:
        """As ingest publishes it."""
        at = day_at(self.day)
        return Envelope(
            id=f"{self.record}-{self.day}-{self.tie}-{sorted(self.fields.items())}"[:250],
            source="/crm/test/main",
            type=RECORD_KINDS[self.kind].type,
            subject=f"{self.kind}/{self.record}",
            time=to_text(at),
            recordedtime=to_text(day_at(LAST_DAY + 1)),
            sequence=sequence_of(at, self.tie),
            data=encode_data(dict(self.fields)),
        )

    @property
    def fact(self) -> Fact:
        """As services read it."""
        return read_fact(self.envelope)


@dataclass(frozen=True, slots=True)
class Decided:
    """What a person decides in the service: no fact, and decisions keep their order.

    what: `plan` or `assignment`. document: as it is sent.
    """

    what: str
    name: str
    document: Mapping[str, Any] = field(repr=False)
    number: int = 1


Step: TypeAlias = Said | QuotaData | Decided
Batch: TypeAlias = Sequence[Step]


@dataclass(frozen=True, slots=True)
class Story:
    """The same steps, told and told again: permuted, some facts twice, in other batches."""

    told: Sequence[Batch]
    again: Sequence[Batch]

    @property
    def at_once(self) -> Sequence[Batch]:
        """All of it in one batch: nothing that was made before can be of use or in the way."""
        return [[step for batch in self.told for step in batch]]


def day_at(day: int) -> datetime:
    """The instant of a day's statements."""
    return START + timedelta(days=day)


def days(first: int = 0) -> st.SearchStrategy[int]:
    """Few days, so that equal ones occur; on both sides of a month's and a year's end."""
    return st.integers(first // 5, LAST_DAY // 5).map(lambda number: number * 5)


# ---- what may happen --------------------------------------------------------------------------

AMOUNTS = st.integers(1, 2_000_000).map(lambda cents: f"{cents // 100}.{cents % 100:02d}")
SPLITS = st.sampled_from(
    [
        {"splits": {"ana": "1/3", "ben": "2/3"}, "complete": ["splits"]},
        {"splits": {"ana": "50%", "crm:t:u-ben": "30%", "cem": "20%"}, "complete": ["splits"]},
        {"splits": {"ben": "60%"}},
        {"splits": {"ana": None}},
        {"splits": {}, "complete": ["splits"]},
    ]
)
OVERLAYS = st.sampled_from(PEOPLE).map(lambda person: {"overlays": {person: "10%"}})
PATCHES = st.one_of(
    st.sampled_from(["won", "won", "won", "lost", "proposal", "unmapped"]).map(
        lambda stage: {"stage": stage}
    ),
    st.sampled_from([*OWNERS, None]).map(lambda owner: {"owner": owner}),
    AMOUNTS.map(lambda amount: {"amount": amount}),
    st.sampled_from([{"amount": None}, {"currency": "EUR"}, {"currency": "USD"}]),
    SPLITS,
    OVERLAYS,
    days().map(lambda day: {"closed_at": to_text(day_at(day))}),
    st.sampled_from(
        [{"type": "new"}, {"account": "acme"}, {"lost_reason": "No decision"}, {"test": False}]
    ),
)
TIES = st.integers(0, 2)


@st.composite
def opening(draw: st.DrawFn) -> list[Said]:
    """Every deal, priced and owned; most of them won, some of them shared."""
    return [
        Said(
            "deal",
            deal,
            draw(st.sampled_from([0, 10, 40, 45])),
            {
                "amount": draw(AMOUNTS),
                "currency": draw(st.sampled_from(["USD", "USD", "EUR"])),
                "owner": draw(st.sampled_from(OWNERS)),
                "stage": draw(st.sampled_from(["won", "won", "won", "lost", "proposal"])),
                **draw(st.one_of(st.just({}), st.just({}), SPLITS, OVERLAYS)),
            },
        )
        for deal in DEALS
    ]


@st.composite
def changed(draw: st.DrawFn) -> list[Said]:
    """One thing said of a deal."""
    return [Said("deal", draw(st.sampled_from(DEALS)), draw(days()), draw(PATCHES), tie=draw(TIES))]


@st.composite
def merged(draw: st.DrawFn) -> list[Said]:
    """A deal is merged into another; sometimes that is taken back, or the other into it."""
    one, other = draw(st.permutations(DEALS))[:2]
    day = draw(days())
    said = [Said("deal", one, day, {"merged_into": other}, tie=draw(TIES))]
    later = draw(st.sampled_from(["stands", "stands", "taken back", "returned"]))
    if later == "taken back":
        said.append(Said("deal", one, draw(days(day)), {"merged_into": None}, tie=3))
    elif later == "returned":
        said.append(Said("deal", other, draw(days()), {"merged_into": one}, tie=draw(TIES)))
    return said


@st.composite
def removed(draw: st.DrawFn, of: Sequence[tuple[str, str]]) -> list[Said]:
    """A record is deleted; often it comes back."""
    kind, record = draw(st.sampled_from(of))
    day = draw(days())
    said = [Said(kind, record, day, {"deleted": True}, tie=draw(TIES))]
    if draw(st.booleans()):
        said.append(Said(kind, record, draw(days(day)), {"deleted": False}, tie=3))
    return said


@st.composite
def activity(draw: st.DrawFn) -> list[Said]:
    """A call or meeting; said again, it may belong to another deal."""
    done = draw(days())
    fields = {
        "kind": draw(st.sampled_from(["call", "meeting"])),
        "owner": draw(st.sampled_from(OWNERS)),
        "deal": draw(st.sampled_from([*DEALS, None])),
        "completed_at": draw(st.sampled_from([to_text(day_at(done)), None])),
        "due_at": to_text(day_at(done)),
        "participants": {draw(st.sampled_from(PEOPLE)): True, "them:1": True},
    }
    record = draw(st.sampled_from(["crm:t:a1", "crm:t:a2"]))
    return [Said("activity", record, done, fields, tie=draw(TIES))]


@st.composite
def invoice(draw: st.DrawFn) -> list[Said]:
    """An invoice or credit note of a deal; said again, it may be another deal's."""
    fields: dict[str, Any] = {
        "amount": draw(AMOUNTS),
        "currency": "USD",
        "deal": draw(st.sampled_from(DEALS)),
        "status": draw(st.sampled_from(["open", "open", "paid", "void"])),
        "issued_at": to_text(day_at(draw(days()))),
    }
    record = draw(st.sampled_from(["crm:t:i1", "crm:t:i2", "crm:t:i3"]))
    if record == "crm:t:i3":
        fields["credit_note_of"] = "crm:t:i1"
    return [Said("invoice", record, draw(days()), fields, tie=draw(TIES))]


@st.composite
def stages_changed(draw: st.DrawFn) -> list[Said]:
    """The stage map from a day on, or as it always should have been: `proposal` counts as won."""
    stages = draw(
        st.sampled_from(
            [
                {**STAGES, "unmapped": {"order": 9, "status": "won"}},
                {**STAGES, "proposal": {"order": 2, "status": "won"}},
                {**STAGES, "won": {"order": 4, "status": "open"}},
            ]
        )
    )
    since = draw(st.sampled_from([SINCE, "2025-12-15"]))
    fields = {"effective_from": since, "stages": stages}
    return [Said("stage_map", "crm:t:default", draw(days()), fields, tie=draw(TIES))]


@st.composite
def identity_moved(draw: st.DrawFn) -> list[Said]:
    """A source's user turns out to be somebody else, from a day on."""
    user = draw(st.sampled_from(["crm:t:u-ana", "crm:t:u-ben", "crm:t:nobody"]))
    since = draw(st.sampled_from([SINCE, "2025-12-20"]))
    day = draw(days())
    taken = {"effective_from": since, "identities": {user: True}}
    said = [Said("person", draw(st.sampled_from(PEOPLE)), day, taken, tie=draw(TIES))]
    if user != "crm:t:nobody":
        left = {"effective_from": since, "identities": {user: False}}
        said.append(Said("person", user.removeprefix("crm:t:u-"), day, left, tie=draw(TIES)))
    return said


@st.composite
def zone_changed(draw: st.DrawFn) -> list[Said]:
    """The organisation lives by another clock."""
    zone = draw(st.sampled_from(["Pacific/Auckland", "America/New_York", "UTC"]))
    fields = {"effective_from": SINCE, "time_zone": zone}
    return [Said("calendar", "org", draw(days()), fields, tie=draw(TIES))]


@st.composite
def segment_changed(draw: st.DrawFn) -> list[Said]:
    """The account of some deals is another kind of customer."""
    segment = draw(st.sampled_from(["enterprise", "smb", None]))
    return [Said("account", "acme", draw(days()), {"segment": segment}, tie=draw(TIES))]


def life(*more: st.SearchStrategy[list[Said]]) -> st.SearchStrategy[list[Said]]:
    """What happens to deals, their activities and what they are read by; changes of a deal most."""
    return st.one_of(
        changed(),
        changed(),
        changed(),
        merged(),
        removed([*(("deal", deal) for deal in DEALS), ("activity", "crm:t:a1")]),
        activity(),
        activity(),
        stages_changed(),
        identity_moved(),
        zone_changed(),
        *more,
    )


def company() -> list[Said]:
    """Three people with a manager, the organisation's calendar, and the stage map."""
    people = [
        Said(
            "person",
            person,
            0,
            {
                "effective_from": SINCE,
                "name": person.title(),
                "identities": {f"crm:t:u-{person}": True},
            },
        )
        for person in PEOPLE
    ]
    zone = {"effective_from": SINCE, "time_zone": "Europe/Berlin", "currency": "USD"}
    stages = {"effective_from": SINCE, "stages": STAGES}
    return [
        *people,
        Said("calendar", "org", 0, zone),
        Said("stage_map", "crm:t:default", 0, stages),
    ]


# ---- the story --------------------------------------------------------------------------------


@st.composite
def stories(
    draw: st.DrawFn,
    founding: Sequence[Step],
    episodes: st.SearchStrategy[list[Said] | list[QuotaData]],
    decisions: st.SearchStrategy[list[Sequence[Decided]]] | None = None,
) -> Story:
    """What is there from the beginning, then episodes in any order, and decisions among them.

    decisions: in groups, each made at once.
    """
    steps: list[Step] = [*draw(opening())]
    for episode in draw(st.lists(episodes, min_size=12, max_size=24)):
        steps += episode
    decided: list[Sequence[Decided]] = draw(decisions) if decisions is not None else []
    told = [*founding, *_among(draw, decided, steps, until=len(steps) // 3)]
    facts = [step for step in told if not isinstance(step, Decided)]
    twice = draw(st.lists(st.sampled_from(facts), min_size=1, max_size=8))
    again: list[Step] = draw(st.permutations([*facts, *twice]))
    if draw(st.booleans()):
        # A late change of reference data has everything made anew, and would hide what a change
        # of one deal does not reach.
        first: list[Step] = [step for group in decided for step in group]
        first += [step for step in again if not of_a_root(step)]
        return Story(_cut(draw, told), [first, *_cut(draw, filter(of_a_root, again))])
    anywhere = _among(draw, decided, again, until=len(again))
    return Story(_cut(draw, told), _cut(draw, anywhere))


def drawn(strategy: st.SearchStrategy[Story], count: int) -> list[Story]:
    """So many stories, always the same: for what cannot be run by Hypothesis itself."""
    found: list[Story] = []

    @settings(
        max_examples=count,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(story: Story) -> None:
        found.append(story)

    collect()
    return found


def of_a_root(step: Step) -> bool:
    """Whether a step is a fact of a deal, or of what hangs on one."""
    return isinstance(step, Said) and step.kind not in REFERENCE_KINDS


def _among(
    draw: st.DrawFn, decided: Sequence[Sequence[Decided]], steps: Sequence[Step], *, until: int
) -> list[Step]:
    """Groups of decisions among the first so many other steps, in their order."""
    found = list(steps)
    places = sorted(draw(st.integers(0, until)) for _ in decided)
    for place, group in reversed(list(zip(places, decided, strict=True))):
        found[place:place] = group
    return found


def _cut(draw: st.DrawFn, steps: Iterable[Step]) -> list[Batch]:
    """Up to eight batches."""
    given = list(steps)
    cuts = sorted(draw(st.sets(st.integers(1, max(1, len(given) - 1)), min_size=3, max_size=7)))
    ends = [*cuts, len(given)]
    return [given[a:b] for a, b in zip([0, *cuts], ends, strict=True) if b > a]
