"""The simulated company: the same for a seed, large enough, and as untidy as promised."""

from __future__ import annotations

import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from tests.oracle import recompute
from tests.oracle.deals import share_of
from tests.simulator import Company, coverage, setup_calls, stream_facts
from tests.simulator.history import History
from tests.simulator.people import LEAVER, TENANT

SMALL = 0.02
EXPECTED = (
    "activities_cancelled",
    "activities_deleted",
    "closed_at",
    "corrected_after_win",
    "deleted",
    "deleted_after_win",
    "handed_over",
    "leads_converted",
    "left_won",
    "lost",
    "lost_reopened",
    "merged",
    "merged_after_win",
    "overlays",
    "owner_changes_after_win",
    "pushed",
    "reopened_beyond_grace",
    "reopened_within_grace",
    "restored",
    "splits",
    "splits_after_win",
    "splits_restated",
    "won",
    "won_tomorrow_in_utc",
    "zeroed_after_loss",
)


@pytest.fixture(scope="module")
def year() -> Company:
    """A whole company's year."""
    started = time.perf_counter()
    company = Company.generate(7)
    assert time.perf_counter() - started < 5
    return company


def test_the_year_is_large_enough(year: Company) -> None:
    assert year.facts >= 50_000
    assert sum(len(deal.changes) for deal in year.history.deals) >= 30_000
    assert len(year.history.assignments) == 24


def test_the_same_seed_gives_the_same_company(tmp_path: Path) -> None:
    first = Company.generate(3, SMALL).history
    assert first == Company.generate(3, SMALL).history
    assert first != Company.generate(4, SMALL).history
    first.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json") == first


@pytest.mark.parametrize("seed", range(8))
def test_even_a_small_company_meets_everything(seed: int) -> None:
    company = Company.generate(seed, SMALL)
    assert 500 <= company.facts <= 2500
    counts = coverage(company.history)
    assert [name for name in EXPECTED if counts[name] < 1] == []
    assert recompute(company.history).stalled


def test_no_field_is_stated_twice_in_one_instant(year: Company) -> None:
    for deal in year.history.deals:
        said = Counter((change.at_ms, change.field) for change in deal.changes)
        assert max(said.values()) == 1, deal.id
        instants = [change.at_ms for change in deal.changes]
        assert instants == sorted(instants)
        assert instants[-1] < year.history.ends_ms


def test_shared_deals_divide_exactly(year: Company) -> None:
    for deal in year.history.deals:
        splits = [change.value for change in deal.changes if isinstance(change.value, dict)]
        amounts = [str(change.value) for change in deal.changes if change.field == "amount"]
        for members in splits:
            shares = [share_of(text) for text in members.values()]
            if sum(shares) == 1:
                parts = [Fraction(amount) * share for amount in amounts for share in shares]
                assert all((part * 100).denominator == 1 for part in parts)


def test_the_leaver_hands_over_the_open_book_and_keeps_what_was_won(year: Company) -> None:
    leaver = next(person for person in year.history.people if person.id == LEAVER)
    result = recompute(year.history)
    for deal in result.deals.values():
        if deal.status == "open" and not deal.gone:
            assert deal.latest("owner") != leaver.identity
    paid = {month for who, month in result.statements if who == LEAVER}
    assert paid
    assert max(paid) <= "2025-06"
    assert (LEAVER, "2025-Q3") not in result.closed or not result.closed[LEAVER, "2025-Q3"].won


def test_attainment_is_spread_around_the_quota(year: Company) -> None:
    result = recompute(year.history).closed
    reps = {rep.payee for rep in year.history.assignments}
    found = [float(c.attainment or 0) for (who, _), c in result.items() if who in reps]
    assert sum(value < 0.8 for value in found) >= 10
    assert sum(value > 1.25 for value in found) >= 10


def test_setup_names_only_what_exists_already() -> None:
    calls = list(setup_calls(Company.generate(1, SMALL), secret="demo-secret"))
    paths = [call.path for call in calls]
    assert paths[0] == "/v1/calendars/org"
    assert paths.count(f"/v1/stage-maps/{TENANT}:default") == 2
    assert len([path for path in paths if path.startswith("/v1/assignments/")]) == 24
    first_team = paths.index("/v1/teams/acme-east")
    assert first_team < paths.index("/v1/people/acme-ana")
    assert paths.index("/v1/plans/ae-2025/versions/1") < paths.index(
        "/v1/assignments/acme-ana-2025"
    )


def test_a_stream_is_lazy_and_the_same_again() -> None:
    stream = stream_facts(1_000_000, 5)
    first = [next(stream) for _ in range(200)]
    again = stream_facts(1_000_000, 5)
    assert first == [next(again) for _ in range(200)]
    assert {event["type"] for event in first} == {"attain.deal.v1"}
