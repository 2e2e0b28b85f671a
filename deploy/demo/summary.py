"""What came out, for a person at a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import median
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from deploy.demo.figures import Difference, quarters
from deploy.demo.read import JsonObject, Office, number, recorded, top_lines
from deploy.demo.stage import Stage
from deploy.demo.story import Told
from deploy.embedded.supervisor import together
from shared.http.reference import DOCS_PATH
from tests.simulator.history import History
from tests.support.slack_server import texts_of

LINES_SHOWN = 6
ALERTS_SHOWN = 6
DIFFERENCES_SHOWN = 20
ON_TARGET = Decimal(1)
NEAR_TARGET = Decimal("0.8")
TEAM_KPIS = ("K1", "K5", "K12", "K13", "K9", "K10", "K17", "K24")
WITHOUT_PERIOD = frozenset({"K9", "K10", "K17"})

Column = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Results:
    """What the services answered. statements: explained; of the last month in which pay is due."""

    attainment: Mapping[str, Sequence[JsonObject]]
    teams: Mapping[str, Mapping[str, JsonObject]]
    pay: Sequence[JsonObject]
    statements: Sequence[JsonObject]
    alerts: Sequence[JsonObject]
    mails: Sequence[JsonObject]
    slack: Sequence[JsonObject]


async def gather(office: Office, stage: Stage, history: History) -> Results:
    """Ask for everything that is shown."""
    attainment = {
        quarter: (await office.get("metrics", "/v1/attainment", period=quarter))["data"]
        for quarter in quarters(history)
    }
    teams = {team.id: await _team_kpis(office, history, team.id) for team in history.teams}
    pay = await office.pages("commissions", "/v1/statements")
    return Results(
        attainment=attainment,
        teams=teams,
        pay=pay,
        statements=await _explained(office, pay),
        alerts=await office.pages("notifications", "/v1/alerts", state="open"),
        mails=recorded(stage.mail_record),
        slack=recorded(stage.slack_record),
    )


async def _team_kpis(office: Office, history: History, team: str) -> dict[str, JsonObject]:
    period = quarters(history)[-1]
    found = await together(
        office.kpi(kpi, team, **({} if kpi in WITHOUT_PERIOD else {"period": period}))
        for kpi in TEAM_KPIS
    )
    return dict(zip(TEAM_KPIS, found, strict=True))


async def _explained(office: Office, pay: Sequence[JsonObject]) -> list[JsonObject]:
    """The explanations of the greatest statements of the last month with any."""
    paid = [row for row in pay if Decimal(row["own"])]
    if not paid:
        return []
    last = max(row["period"] for row in paid)
    greatest = sorted(
        (row for row in paid if row["period"] == last), key=lambda row: -Decimal(row["own"])
    )
    return await together(
        office.get(
            "commissions",
            f"/v1/statements/{row['payee']}/{row['plan']}/{row['period']}/explanation",
        )
        for row in greatest[:LINES_SHOWN]
    )


def show(console: Console, results: Results, history: History, told: Told, stage: Stage) -> None:
    """Print it all."""
    names = {person.id: person.name for person in history.people}
    names |= {team.id: team.name for team in history.teams}
    console.print(_attainment(results, history, names))
    console.print(_teams(results, history, names))
    console.print(_statements(results, names))
    if results.statements:
        console.print(_explanation(results, names))
    console.print(_alerts(results, names))
    console.print(_messages(results))
    console.print(_flow(told))
    console.print(_where(stage))


def _attainment(results: Results, history: History, names: Mapping[str, str]) -> Table:
    periods = quarters(history)
    of: dict[str, dict[str, JsonObject]] = {}
    for quarter in periods:
        for row in results.attainment[quarter]:
            if row["person"] is not None:
                of.setdefault(row["person"], {})[quarter] = row
    paid: dict[str, dict[str, Decimal]] = {}
    for row in results.pay:
        sums = paid.setdefault(row["payee"], {})
        currency = row["payout_currency"]
        sums[currency] = sums.get(currency, Decimal(0)) + Decimal(row["payout_amount"] or 0)
    table = _table(
        "Attainment of quota, bookings and pay",
        ("rep", "left"),
        *((quarter.partition("-")[2], "right") for quarter in periods),
        (f"booked {history.year}", "right"),
        (f"paid {history.year}", "right"),
    )
    booked = {
        person: sum((Decimal(row["booked"]) for row in rows.values()), Decimal(0))
        for person, rows in of.items()
    }
    for person in sorted(of, key=lambda person: -booked[person]):
        rows = of[person]
        marks = [_percent(rows[q]["attainment"] if q in rows else None) for q in periods]
        money = " ".join(f"{_money(a)} {c}" for c, a in sorted(paid.get(person, {}).items()))
        table.add_row(names.get(person, person), *marks, f"{_money(booked[person])} USD", money)
    return table


def _teams(results: Results, history: History, names: Mapping[str, str]) -> Table:
    table = _table(
        f"Teams, {quarters(history)[-1]}; pipeline and stalled deals as of the year's end",
        ("team", "left"),
        *((title, "right") for title in ("attainment", "win rate", "deal size", "cycle")),
        *((title, "right") for title in ("pipeline", "weighted", "stalled", "activities")),
    )
    for team, kpis in results.teams.items():
        value = {kpi: answer["value"] for kpi, answer in kpis.items()}
        cycle = number(value["K13"])
        table.add_row(
            names[team],
            _percent(value["K1"]),
            _percent(value["K5"], coloured=False),
            _money(number(value["K12"])),
            "-" if cycle is None else f"{cycle:.0f} days",
            _money(number(value["K9"])),
            _money(number(value["K10"])),
            f"{value['K17']} of {kpis['K17']['parts']['open']}",
            str(value["K24"]),
        )
    return table


def _statements(results: Results, names: Mapping[str, str]) -> Table:
    period = results.statements[0]["period"] if results.statements else ""
    table = _table(
        f"Top statement lines {period}",
        ("payee", "left"),
        ("component", "left"),
        ("deal", "left"),
        ("credited", "right"),
        ("earned", "right"),
    )
    for statement, line in top_lines(results.statements, LINES_SHOWN):
        credit = line.get("credit") or {}
        credited = f"{_money(number(credit.get('amount')))} {credit.get('currency', '')}"
        table.add_row(
            names.get(statement["payee"], statement["payee"]),
            line["component"],
            credit.get("deal") or line["kind"],
            credited if credit else "",
            f"{_money(number(line['amount']), cents=True)} {line['currency']}",
        )
    return table


def _explanation(results: Results, names: Mapping[str, str]) -> Panel:
    statement, line = next(iter(top_lines(results.statements, 1)))
    who = names.get(statement["payee"], statement["payee"])
    tree = Tree(Text(f"{line['amount']} {line['currency']} for {who}, {line['component']}"))
    for name in ("credit", "conversion", "measure", "rates", "rounding"):
        if isinstance(line.get(name), dict):
            branch = tree.add(Text(name, style="bold"))
            for key, value in line[name].items():
                if value not in (None, [], {}):
                    branch.add(Text(f"{key}: {_plain(value)}"))
    said = Group(Text(line["sentence"]), "", tree, "", Text(statement["sentence"], style="dim"))
    return Panel(said, title="One line explained", title_align="left")


def _alerts(results: Results, names: Mapping[str, str]) -> Table:
    kinds = Counter(alert["kind"] for alert in results.alerts)
    counted = ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in kinds.items())
    table = _table(
        f"Open alerts: {counted or 'none'}",
        ("alert", "left"),
        ("owner", "left"),
        ("since", "left"),
        ("because", "left"),
    )
    for alert in results.alerts[:ALERTS_SHOWN]:
        person = alert["person"] or alert["team"] or ""
        table.add_row(
            Text(alert["title"]),
            names.get(person, person),
            str(alert["opened_at"])[:10],
            Text("; ".join(reason["text"] for reason in alert["evidence"])),
        )
    return table


def _messages(results: Results) -> Panel:
    calls = Counter(message["method"] for message in results.slack)
    new, updates = calls["chat.postMessage"] + calls["webhook"], calls["chat.update"]
    said = [f"{new} Slack messages, {updates} updates of them in place, {len(results.mails)} mails"]
    if results.slack:
        message = results.slack[-1]
        texts = " | ".join(dict.fromkeys(" ".join(t.split()) for t in texts_of(message["body"])))
        said += ["", f"To {message['channel']}: {texts}"]
    if results.mails:
        mail = results.mails[-1]
        said += ["", f"To {', '.join(mail['to'])}: {mail['subject']}", str(mail["text"]).strip()]
    return Panel(Text("\n".join(said)), title="Messages that went out", title_align="left")


def _flow(told: Told) -> Panel:
    sent = told.sent
    return Panel(
        f"{sent.events:,} facts in {sent.deliveries:,} signed requests, through all services in "
        f"{told.elapsed_s:.1f} s: {told.events_per_s:,.0f} facts a second.\n"
        f"Everything was visible {median(told.delays_s):.2f} s after the last accepted fact "
        f"(median of {len(told.delays_s)} looks; at most {max(told.delays_s):.2f} s).",
        title="Event rate and freshness",
        title_align="left",
    )


def _where(stage: Stage) -> Panel:
    lines = [
        f"{service:14} {stage.url(service)}{DOCS_PATH}"
        for service in ("ingest", "metrics", "commissions", "notifications")
    ]
    lines += [
        "",
        f"A token: ATTAIN_SIGNING_KEY_PATH={stage.signing_key} .venv/bin/attain token --role admin",
        f"Logs:    {stage.stack.state.logs}",
    ]
    return Panel(Text("\n".join(lines)), title="Where to look", title_align="left")


def show_verdict(
    console: Console, compared: int, found: Sequence[Difference], complaints: Sequence[str]
) -> None:
    """Print whether everything agrees with the independent recomputation, and what does not."""
    if found:
        table = _table(
            f"{len(found):,} of {compared:,} figures differ from the independent recomputation",
            ("figure", "left"),
            ("should be", "right"),
            ("is", "right"),
        )
        for difference in found[:DIFFERENCES_SHOWN]:
            table.add_row(
                Text(str(difference.name)),
                Text(str(difference.expected)),
                Text(str(difference.found)),
            )
        console.print(table)
    else:
        console.print(
            f"[green]All {compared:,} figures agree with an independent recomputation, "
            "money to the cent.[/]"
        )
    for complaint in complaints[:DIFFERENCES_SHOWN]:
        console.print(Text(complaint, style="red"))
    if len(complaints) > DIFFERENCES_SHOWN:
        console.print(f"… and {len(complaints) - DIFFERENCES_SHOWN} more")


def _table(title: str, *columns: Column) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim")
    for name, justify in columns:
        table.add_column(name, justify="right" if justify == "right" else "left")
    return table


def _percent(text: str | None, *, coloured: bool = True) -> RenderableType:
    if text is None:
        return "-"
    value = Decimal(text)
    style = "green" if value >= ON_TARGET else "yellow" if value >= NEAR_TARGET else "red"
    return Text(f"{value:.0%}", style=style if coloured else "")


def _money(value: Decimal | None, *, cents: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if cents else f"{value:,.0f}"


def _plain(value: Any) -> str:  # noqa: ANN401 - a JSON value
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(part)}" for key, part in value.items())
    if isinstance(value, list):
        return "; ".join(_plain(part) for part in value)
    return str(value)
