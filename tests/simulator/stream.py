"""Any number of deals in bounded memory, for measuring."""

from __future__ import annotations

from collections.abc import Iterator

from tests.simulator import people
from tests.simulator.company import draw, live, world_of
from tests.simulator.emit import Event, record_event
from tests.simulator.history import Deal, Said

DEALS_IN_FLIGHT = 1_000
"""Deals whose lives are interleaved; the next group begins when they are told."""


def stream_facts(n_deals: int, seed: int, *, year: int = 2025) -> Iterator[Event]:
    """CloudEvents about `n_deals` deals, their duplicates included: one property each, by time.

    Time order holds within a group of deals only. The people, rates and stage maps are those of
    `Company.generate(seed, year=year)`; what happens after the year is told as well.
    """
    world = world_of(year, people.hire(draw(seed, "people"), year))
    for start in range(0, n_deals, DEALS_IN_FLIGHT):
        numbers = range(start, min(start + DEALS_IN_FLIGHT, n_deals))
        facts = [
            fact
            for number in numbers
            for deal in live(seed, world, number, n_deals, forced=False)
            for fact in _facts(deal)
        ]
        facts.sort(key=lambda fact: fact[0])
        for _, event in facts:
            yield event


def _facts(deal: Deal) -> Iterator[tuple[int, Event]]:
    for number, change in enumerate(deal.changes, 1):
        said = Said(change.at_ms, {change.field: change.value})
        yield change.at_ms, record_event("deal", deal.id, said, number)
