"""The steps that cap: deals, attainment, components, and the plan over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal

from services.commissions.domain.cap_lines import AttainmentCapTaken, CapTaken
from services.commissions.domain.closes import CarriedExcess
from services.commissions.domain.lines import Line, LineKind, credit_order, line_of_basis
from services.commissions.domain.periods import Period, PeriodKind, period_of
from services.commissions.domain.plan import PlanVersion
from services.commissions.domain.rates import ZERO
from services.commissions.domain.rating import attainment_limit, rounded_line
from services.commissions.domain.terms import Cap, CapScope
from services.commissions.domain.work import Work
from shared.money import EXACT, exact_sum

_add, _subtract = EXACT.add, EXACT.subtract


def cap_deals(work: Work) -> None:
    """What a cap per deal takes from each line, counted over the deal's lines in order."""
    for component_id, lines in work.credit_lines.items():
        if not any(c.cap and c.cap.per is CapScope.DEAL for c in work.terms(component_id)):
            continue
        sums: dict[str, Decimal] = {}
        for line in lines:
            cap = work.rater.component_of(line).cap
            if line.credit is None or cap is None or cap.per is not CapScope.DEAL:
                continue
            before = sums.get(line.credit.deal_id, ZERO)
            after = _add(before, line.net)
            sums[line.credit.deal_id] = after
            basis = CapTaken(cap.amount, cap.per.value, False, before, after, opens=False)
            if basis.amount:
                line.net = _add(line.net, basis.amount)
                work.put(_taken(line, LineKind.DEAL_CAP, f"{LineKind.DEAL_CAP}:{line.key}", basis))


def cap_attainment(work: Work) -> None:
    """What a cap by attainment takes from each line, counted over its measure period."""
    for component_id, lines in work.credit_lines.items():
        if not any(c.attainment_cap is not None for c in work.terms(component_id)):
            continue
        sums: dict[Period | None, Decimal] = {}
        cancelled = _Cancelled(work, lines)
        for line in lines:
            component, quota = work.rater.component_of(line), line.quota
            limit_measure = attainment_limit(component, quota)
            if limit_measure is None or quota is None or component.attainment_cap is None:
                continue
            for gone, drop in cancelled.before(line):
                sums[gone.measure] = _subtract(sums.get(gone.measure, ZERO), drop)
            before = sums.get(line.measure, ZERO)
            sums[line.measure] = _add(before, line.amount)
            earned = work.rater.pricing_of(line).earned(limit_measure, line.count + 1)
            basis = AttainmentCapTaken(
                attainment=component.attainment_cap,
                quota=quota,
                limit=rounded_line(earned, work.rater.version_of(line)),
                limit_measure=limit_measure,
                measure_before=line.before,
                measure_after=line.after,
                before=before,
                after=sums[line.measure],
            )
            if basis.amount and line.key not in work.overridden:
                line.net = _add(line.net, basis.amount)
                key = f"{LineKind.ATTAINMENT_CAP}:{line.key}"
                work.put(_taken(line, LineKind.ATTAINMENT_CAP, key, basis))


class _Cancelled:
    """Credits that leave their measure by cancellation, in order of time.

    paid: lines that others than the rates gave their amount, which is what goes with them.
    """

    def __init__(
        self, work: Work, lines: Sequence[Line], paid: Mapping[str, Decimal] | None = None
    ) -> None:
        self._paid = paid or {}
        losses = work.rater.losses
        found = [
            (at, line.key, line)
            for line in lines
            if line.key in losses and line.credit and (at := line.credit.cancelled_at)
        ]
        self._waiting = [line for _, _, line in sorted(found, key=lambda entry: entry[:2])]
        self._work = work

    @property
    def any_left(self) -> bool:
        """Whether something is still to be taken out."""
        return bool(self._waiting)

    def before(self, line: Line) -> Iterator[tuple[Line, Decimal]]:
        """(line, what the measure earned less) of what was cancelled before `line` was credited."""
        while self._waiting and line.credit is not None:
            gone = self._waiting[0]
            if gone.credit is None or gone.credit.cancelled_at is None:
                return
            if max(gone.credit.cancelled_at, gone.credit.instant) >= line.credit.instant:
                return
            self._waiting.pop(0)
            loss = self._work.rater.losses[gone.key]
            drop = _subtract(loss.earned_with, loss.earned_without)
            version = self._work.rater.version_of(gone)
            yield gone, self._paid.get(gone.key, rounded_line(drop, version))


class _Running:
    """The running sum of one cap over its scopes, in order of time."""

    def __init__(self, carried: CarriedExcess | None) -> None:
        self._left = carried.amount if carried else ZERO
        self._scope: Period | None = None
        self._carried_in = ZERO
        self._total = ZERO
        self._opens = True

    @property
    def left(self) -> Decimal:
        """Excess that is still to be paid."""
        return self._left

    def take(self, scope: Period, cap: Cap | None, change: Decimal) -> CapTaken:
        """Let the sum of `scope` grow by `change`."""
        if scope != self._scope:
            self._scope, self._carried_in, self._total = scope, self._left, ZERO
            self._opens = True
        before, self._total = self._total, _add(self._total, change)
        basis = CapTaken(
            limit=None if cap is None else cap.amount,
            per="statement" if cap is None else cap.per.value,
            carry=cap is not None and cap.carry,
            before=before,
            after=self._total,
            carried_in=self._carried_in,
            opens=self._opens,
        )
        self._opens = False
        self._left = basis.carried_out
        return basis

    def lower(self, scope: Period, drop: Decimal) -> None:
        """Take what was cancelled out of the sum, where its scope still runs."""
        if scope == self._scope:
            self._total = _subtract(self._total, drop)


def cap_components(work: Work) -> None:
    """One line for each statement, scope and version in which a component's cap takes or pays."""
    for component_id in sorted({*work.credit_lines, *work.excess} - {""}):
        lines = work.credit_lines.get(component_id, [])
        if component_id in work.excess or any(c.cap for c in work.terms(component_id)):
            _cap_component(work, component_id, lines)


def _limits(work: Work, line: Line) -> Cap | None:
    """The cap over a line's statement or measure."""
    cap = work.rater.component_of(line).cap
    return None if cap is None or cap.per is CapScope.DEAL else cap


def _cap_component(work: Work, component_id: str, lines: Sequence[Line]) -> None:
    carried = work.excess.pop(component_id, None)
    running = _Running(carried)
    cancelled = _Cancelled(work, lines, work.overridden)
    origin = carried.version_hash if carried else ""
    by_statement: dict[Period, list[Line]] = {}
    for line in lines:
        by_statement.setdefault(line.statement, []).append(line)
    for period in work.periods():
        own = by_statement.get(period, [])
        if not own and running.left:
            _pay_carried(work, component_id, origin, period, running)
        for number, run in enumerate(_runs(work, own, cancelled, running)):
            origin = run[-1].version_hash
            _cap_run(work, run, number, running)
    if running.left:
        work.excess[component_id] = CarriedExcess(component_id, running.left, origin)


def _scope_of(line: Line, cap: Cap | None) -> Period:
    per_measure = cap is not None and cap.per is CapScope.MEASURE
    return line.measure if per_measure and line.measure is not None else line.statement


def _runs(
    work: Work, lines: Iterable[Line], cancelled: _Cancelled, running: _Running
) -> Iterator[list[Line]]:
    """Neighbouring lines of one scope and version, between cancellations."""
    run: list[Line] = []
    place: object = None
    caps: dict[str, Cap | None] = {}
    for line in lines:
        if line.version_hash not in caps:
            caps[line.version_hash] = _limits(work, line)
        gone = list(cancelled.before(line)) if cancelled.any_left else []
        here = (_scope_of(line, caps[line.version_hash]), line.version_hash)
        if run and (gone or here != place):
            yield run
            run = []
        for entry, drop in gone:
            running.lower(_scope_of(entry, _limits(work, entry)), drop)
        place = here
        run.append(line)
    if run:
        yield run


def _cap_run(work: Work, run: Sequence[Line], number: int, running: _Running) -> None:
    last = run[-1]
    cap = _limits(work, last)
    if cap is None and not running.left:
        return
    scope = _scope_of(last, cap)
    whole = _take_each(work, running, scope, cap, run, ZERO)
    if whole.amount:
        label = f"{scope.label}/{last.statement.label}/{last.version_hash[:12]}"
        key = f"{LineKind.COMPONENT_CAP}:{last.component_id}/{label}"
        taken = _taken(last, LineKind.COMPONENT_CAP, f"{key}/{number}" if number else key, whole)
        taken.credit = None
        work.put(taken)


def _take_each(  # noqa: PLR0913, PLR0917 - a cap and what grows under it
    work: Work,
    running: _Running,
    scope: Period,
    cap: Cap | None,
    lines: Sequence[Line],
    rest: Decimal,
) -> CapTaken:
    """Let lines, then `rest`, grow under a cap, and note what it leaves of each line if asked."""
    if not work.tracks_net:
        return running.take(scope, cap, _add(exact_sum(line.net for line in lines), rest))
    parts = []
    for line in lines:
        part = running.take(scope, cap, line.net)
        opening = ZERO
        if part.opens:  # what is paid of earlier excess is no line's own
            paid_first = part.carried_in if part.limit is None else part.limit
            opening = min(part.carried_in, paid_first)
        line.net = _add(line.net, _subtract(part.amount, opening))
        parts.append(part)
    if rest or not parts:
        parts.append(running.take(scope, cap, rest))
    first, end = parts[0], parts[-1]
    return CapTaken(
        end.limit, end.per, end.carry, first.before, end.after, first.carried_in, first.opens
    )


def _pay_carried(
    work: Work, component_id: str, origin: str, period: Period, running: _Running
) -> None:
    """Pay carried excess in a statement in which the component has no lines."""
    version = work.version(period)
    if all(component.id != component_id for component in version.components):
        version = work.given.plan.by_hash[origin]
    component = version.component(component_id)
    cap = None if component.cap is None or component.cap.per is CapScope.DEAL else component.cap
    scope = period
    if cap is not None and cap.per is CapScope.MEASURE:
        kind = component.measure_period(version.period)
        scope = period_of(period.start, kind, work.given.fiscal_start_month)
    basis = running.take(scope, cap, ZERO)
    if basis.amount:
        key = f"{component_id}/{scope.label}/{period.label}/carried"
        cap_kind = LineKind.COMPONENT_CAP
        work.put(line_of_basis(cap_kind, key, component_id, version.hash, period, basis))


def cap_plan(work: Work) -> None:
    """The cap over all of a plan's components, a line for each statement in which it takes."""
    carried = work.excess.pop("", None)
    running = _Running(carried)
    origin = carried.version_hash if carried else ""
    for period in work.periods():
        version = work.version(period)
        if version.cap is None and not running.left:
            continue
        scope = _plan_scope(work, version, period)
        origin = version.hash
        lines = work.lines.get(period, [])
        credited: list[Line] = []
        if work.tracks_net:
            credited = sorted((x for x in lines if x.kind is LineKind.CREDIT), key=_place)
        rest = _subtract(work.sum_of(period), exact_sum(line.net for line in credited))
        whole = _take_each(work, running, scope, version.cap, credited, rest)
        if whole.amount:
            key = f"{version.id}/{period.label}"
            work.put(line_of_basis(LineKind.PLAN_CAP, key, "", version.hash, period, whole))
    if running.left:
        work.excess[""] = CarriedExcess("", running.left, origin)


def _place(line: Line) -> tuple[object, ...]:
    return (*credit_order(line.credit), line.component_id) if line.credit else ()


def _plan_scope(work: Work, version: PlanVersion, period: Period) -> Period:
    if version.cap is None or version.cap.per is CapScope.STATEMENT:
        return period
    kind = PeriodKind.YEAR
    if version.cap.per is CapScope.MEASURE:
        kind = version.components[0].measure_period(version.period)
    return period_of(period.start, kind, work.given.fiscal_start_month)


def _taken(line: Line, kind: LineKind, key: str, basis: CapTaken | AttainmentCapTaken) -> Line:
    return Line(
        key=key,
        kind=kind,
        component_id=line.component_id,
        version_hash=line.version_hash,
        statement=line.statement,
        measure=line.measure,
        amount=basis.amount,
        exact=basis.amount,
        credit=line.credit,
        basis=basis,
    )
