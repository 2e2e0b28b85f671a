"""What a message says, before any channel gives it a form.

All text that came from a CRM passes `plain_line` here: one line, no control characters, of bounded
length. Channels still escape it for their own syntax.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from typing import assert_never
from urllib.parse import quote

from services.notifications.domain.alerts import Alert
from services.notifications.domain.deliveries import Transition
from services.notifications.domain.routing import RouteReason
from services.notifications.domain.signals import JsonValue, SignalKind
from shared.errors import InvalidValue
from shared.money import parse_decimal, round_to_minor, to_text

MAX_FACTS = 3
"""A message is read at a glance; the rest is behind its link."""
MAX_REASONS = 5
MAX_HEADLINE_CHARS = 150
"""Slack refuses a longer header."""
MAX_LINE_CHARS = 300

KIND_TEXT: Mapping[SignalKind, str] = {
    SignalKind.DEAL_STALLED: "Stalled deal",
    SignalKind.QUOTA_AT_RISK: "Quota at risk",
}

FACTS_FIRST: Mapping[SignalKind, tuple[str, ...]] = {
    SignalKind.DEAL_STALLED: ("amount", "stage", "days_in_stage", "close_date", "owner"),
    SignalKind.QUOTA_AT_RISK: ("attainment", "quota", "credited", "days_left", "owner"),
}
"""The facts that matter most to the reader, in order; others follow by name."""

_FRACTION_NAMES = ("attainment", "rate", "fraction", "share", "pace")

_JOINERS = frozenset("\u200c\u200d")

_REASON_TEXT: Mapping[RouteReason, str] = {
    RouteReason.OWN: "you are the only person here",
    RouteReason.MANAGER: "you manage the owner",
    RouteReason.TEAM_MANAGER: "you manage the owner's team",
    RouteReason.FALLBACK: "this is the fallback channel and no manager could be reached",
    RouteReason.NOBODY: "",
}


@dataclass(frozen=True, slots=True)
class Fact:
    """One labelled value."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Content:
    """Everything a message says. Each text is one clean line; `link` is ours, or None."""

    headline: str
    status: str
    facts: tuple[Fact, ...]
    why: tuple[str, ...]
    link: str | None
    context: str


def content_of(
    alert: Alert, transition: Transition, reason: RouteReason, base_url: str | None
) -> Content:
    """What a recipient is told about `alert`.

    base_url: where people open Attain, from the settings; None leaves the link out.
    One who no longer manages the owner keeps the headline, which they have read, and learns
    nothing newer.
    """
    signal = alert.signal
    title = plain_line(signal.title, MAX_HEADLINE_CHARS)
    kind = KIND_TEXT[signal.kind]
    opened = instant_text(signal.opened_at)
    match transition:
        case Transition.OPENED | Transition.CHANGED:
            headline, status = title, f"Open since {opened}"
        case Transition.RESOLVED:
            headline = plain_line(f"Resolved: {title}", MAX_HEADLINE_CHARS)
            status = f"Resolved on {instant_text(signal.closed_at or signal.judged_at)}"
        case Transition.HANDED_OVER:
            return Content(
                headline=plain_line(f"Handed over: {title}", MAX_HEADLINE_CHARS),
                status="Somebody else looks after this now; there is nothing for you to do.",
                facts=(),
                why=(),
                link=None,
                context=f"Attain · {kind}",
            )
        case _:
            assert_never(transition)
    parts = ["Attain", kind, plain_line(signal.subject), f"as of {instant_text(signal.judged_at)}"]
    if _REASON_TEXT[reason]:
        parts.append(f"sent because {_REASON_TEXT[reason]}")
    return Content(
        headline=headline,
        status=status,
        facts=facts_of(signal.kind, signal.summary or signal.facts),
        why=tuple(plain_line(e.text) for e in signal.evidence[:MAX_REASONS]),
        link=deep_link(base_url, alert.alert_id),
        context=" · ".join(parts),
    )


def facts_of(kind: SignalKind, values: Mapping[str, JsonValue]) -> tuple[Fact, ...]:
    """The first facts worth showing; values that have no plain form are left behind the link."""
    first = [name for name in FACTS_FIRST[kind] if name in values]
    names = first + sorted(set(values) - set(first))
    shown = ((name, value_text(name, values[name])) for name in names)
    facts = [
        Fact(plain_line(name.replace("_", " ").capitalize(), 60), plain_line(text))
        for name, text in shown
        if text
    ]
    return tuple(facts[:MAX_FACTS])


def value_text(name: str, value: JsonValue) -> str:
    """`value` for a reader; empty when it has no plain form.

    Money is an object of amount and currency. A number whose name ends in attainment, rate,
    fraction, share or pace is a fraction and shown in percent, cut to one digit and not rounded:
    79.96 % under a limit of 80 % must not read 80.0 %.
    """
    match value:
        case bool():
            return "yes" if value else "no"
        case {"amount": str() | int() as amount, "currency": str() as currency}:
            return money_text(amount, currency)
        case str() | int() | float():
            if name.rsplit("_", 1)[-1] in _FRACTION_NAMES:
                return percent_text(str(value))
            return str(value)
        case _:
            return ""


def money_text(amount: str | int, currency: str) -> str:
    """`12,400.00 EUR`, to the currency's minor unit; the raw text when it is no amount."""
    try:
        rounded = round_to_minor(parse_decimal(amount), currency)
    except InvalidValue:
        return f"{amount} {currency}"
    return f"{rounded:,f} {currency}"


def percent_text(fraction: str) -> str:
    """`79.9 %` of `0.7996`; the raw text when it is no number."""
    try:
        percent = parse_decimal(fraction) * 100
    except InvalidValue:
        return fraction
    return f"{to_text(percent.quantize(Decimal('0.1'), rounding=ROUND_DOWN))} %"


def instant_text(instant: datetime) -> str:
    """`2026-06-03 09:00 UTC`: one form, whatever the reader's country."""
    return f"{instant:%Y-%m-%d %H:%M} UTC"


def plain_line(text: str, limit: int = MAX_LINE_CHARS) -> str:
    """`text` as one line of at most `limit` characters, with an ellipsis where it was cut.

    Control and format characters go (line breaks would forge mail headers, direction overrides
    would disguise text), but not the joiners that some scripts need; runs of white space become
    one space.
    """
    spaced = "".join(
        " " if char.isspace() else char
        for char in text
        if char.isspace()
        or char in _JOINERS
        or unicodedata.category(char) not in {"Cc", "Cf", "Cs"}
    )
    line = " ".join(spaced.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


def deep_link(base_url: str | None, alert_id: str) -> str | None:
    """The page that shows this alert's evidence, or None when no base URL is configured."""
    return None if not base_url else f"{base_url.rstrip('/')}/alerts/{quote(alert_id, safe='')}"
