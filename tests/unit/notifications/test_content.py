"""What a message says."""

from __future__ import annotations

import pytest

from services.notifications.domain.content import (
    Fact,
    content_of,
    deep_link,
    plain_line,
    value_text,
)
from services.notifications.domain.deliveries import Transition
from services.notifications.domain.routing import RouteReason
from services.notifications.domain.signals import EpisodeState, JsonValue
from tests.unit.notifications.builders import BASE_URL, a_signal, an_alert


def test_an_opening_says_what_why_and_where() -> None:
    alert = an_alert()
    content = content_of(alert, Transition.OPENED, RouteReason.MANAGER, BASE_URL)
    assert content.headline == "Acme renewal is stalled"
    assert content.status == "Open since 2026-06-03 09:00 UTC"
    assert content.facts == (
        Fact("Amount", "12,400.00 EUR"),
        Fact("Stage", "Proposal"),
        Fact("Days in stage", "31"),
    )
    assert content.why == ("31 days in Proposal, limit 18",)
    assert content.link == f"{BASE_URL}/alerts/{alert.alert_id}"
    assert "you manage the owner" in content.context


def test_a_resolution_says_when() -> None:
    alert = an_alert(a_signal(2, EpisodeState.CLOSED))
    content = content_of(alert, Transition.RESOLVED, RouteReason.MANAGER, None)
    assert content.headline == "Resolved: Acme renewal is stalled"
    assert content.status == "Resolved on 2026-06-04 09:00 UTC"
    assert content.link is None


def test_one_who_no_longer_manages_the_owner_learns_nothing_new() -> None:
    content = content_of(an_alert(), Transition.HANDED_OVER, RouteReason.MANAGER, BASE_URL)
    assert (content.facts, content.why, content.link) == ((), (), None)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("amount", {"amount": "1234567.5", "currency": "JPY"}, "1,234,568 JPY"),
        ("amount", {"amount": "oops", "currency": "EUR"}, "oops EUR"),
        ("attainment", "0.7996", "79.9 %"),
        ("attainment", "0.85", "85 %"),
        ("win_rate", "soon", "soon"),
        ("pushed", True, "yes"),
        ("days", 0, "0"),
        ("owner", None, ""),
        ("list", ["a"], ""),
    ],
)
def test_values_are_shown_for_readers(name: str, value: JsonValue, text: str) -> None:
    assert value_text(name, value) == text


def test_text_is_one_clean_bounded_line() -> None:
    assert plain_line("a\r\nBcc: x\t\u2028b\x00c\u202ed") == "a Bcc: x bcd"
    assert plain_line("x" * 400, 10) == "x" * 9 + "…"
    joined = "\u0645\u06cc\u200c\u062e"  # Persian needs the joiner
    assert plain_line(joined) == joined


def test_a_link_cannot_leave_its_page() -> None:
    assert deep_link("https://a.example/", "../x?y") == "https://a.example/alerts/..%2Fx%3Fy"
