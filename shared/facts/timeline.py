"""What a deal was and is, projected: spans, stays in won, its credit or its loss."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction

import msgspec

from shared.clock import from_epoch_ms
from shared.facts.reference import StageRule

_ONE = Fraction(1)


class Span(msgspec.Struct, frozen=True, gc=False):
    """What held in [start_ms, end_ms) of source time; end_ms None: until now.

    rule: the stage's meaning by the map in force when it was entered, None when unmapped.
    stage_entered_ms: the last entry into this stage, None while no stage was ever stated.
    """

    start_ms: int
    end_ms: int | None
    stage: str | None
    status: str
    owner: str | None
    amount: Decimal | None
    close_date: date | None
    pipeline: str
    rule: StageRule | None
    stage_entered_ms: int | None


class Stay(msgspec.Struct, frozen=True, gc=False):
    """One stay in won, breaks within the grace included. end_ms None: still there."""

    start_ms: int
    end_ms: int | None


class Won(msgspec.Struct, frozen=True):
    """The credit of a deal that is in won.

    amount, currency, owner: None while unknown; what needs them waits. splits, overlays: person →
    exact share, weights already divided by their sum; `splits` empty when the owner has it all.
    """

    instant_ms: int
    stay_began_ms: int
    amount: Decimal | None
    currency: str | None
    owner: str | None
    splits: Mapping[str, Fraction]
    overlays: Mapping[str, Fraction]

    @property
    def instant(self) -> datetime:
        """The credit instant."""
        return from_epoch_ms(self.instant_ms)

    @property
    def stay_began(self) -> datetime:
        """When the current stay in won began."""
        return from_epoch_ms(self.stay_began_ms)

    @property
    def credited(self) -> Mapping[str, Fraction]:
        """Who is credited with which share: the splits, or the owner with the whole."""
        if self.splits:
            return self.splits
        return {} if self.owner is None else {self.owner: _ONE}

    @property
    def splits_add_up(self) -> bool:
        """Whether the credited shares sum to exactly 1."""
        if not self.splits:
            return self.owner is not None
        return sum(self.splits.values(), Fraction(0)) == 1


class Lost(msgspec.Struct, frozen=True):
    """The loss of a deal that is in lost. amount: the last one before the loss (reps zero it)."""

    instant_ms: int
    amount: Decimal | None
    currency: str | None
    owner: str | None
    reason: str | None

    @property
    def instant(self) -> datetime:
        """When it was lost: `closed_at` where it lies within the current stay in lost."""
        return from_epoch_ms(self.instant_ms)


class DealTimeline(msgspec.Struct, frozen=True, kw_only=True):
    """One deal, projected. Instants are milliseconds of source time since 1970.

    spans: contiguous, ascending, empty for a record of which only flags are known.
    merged_into: as the record states it; whoever knows all redirects replaces it by the survivor,
    or by None where a cycle makes this record stand (`resolve_redirects`).
    known_since_ms: the first statement. changed_ms: the last change of stage, amount or close date.
    pushes: moves of the close date to a later day while open; pushes_in_stage: those since the
    current stage was entered. unmapped: stages without a meaning.
    """

    deal_id: str
    name: str | None
    deal_type: str | None
    account: str | None
    currency: str | None
    spans: tuple[Span, ...]
    stays: tuple[Stay, ...]
    status: str
    won: Won | None
    lost: Lost | None
    created_ms: int | None
    closed_ms: int | None
    known_since_ms: int | None
    changed_ms: int | None
    pushes: int
    pushes_in_stage: int
    deleted: bool
    test: bool
    merged_into: str | None
    probability: Decimal | None
    category: str | None
    next_step: str | None
    next_step_ms: int | None
    next_step_said_ms: int | None
    unmapped: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it contributes at all: neither deleted, nor a test, nor merged away."""
        return not (self.deleted or self.test or self.merged_into)

    @property
    def current(self) -> Span | None:
        """What holds now."""
        return self.spans[-1] if self.spans else None

    @property
    def owner(self) -> str | None:
        """Who owns it now."""
        return self.spans[-1].owner if self.spans else None

    @property
    def amount(self) -> Decimal | None:
        """The latest amount."""
        return self.spans[-1].amount if self.spans else None

    @property
    def created_at(self) -> datetime | None:
        """When the source says it was created; None for imports that do not know."""
        return None if self.created_ms is None else from_epoch_ms(self.created_ms)
