"""`attain plan`: plans as files. Read, judged, compared with a running service, and saved there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from services.commissions.domain.lint import Finding, LintContext, Severity, lint
from services.commissions.domain.parse import parse_plan
from services.commissions.domain.plan import Plan, PlanInvalid, PlanVersion
from services.commissions.plans.files import PlanDocument, Unreadable, read_files
from services.commissions.plans.sync import (
    Change,
    Parsed,
    PlanChanges,
    PlanService,
    ServiceRefused,
    edits,
    parsed_by_plan,
)
from shared.http.client import create_client
from shared.money import to_text

TOKEN_VARIABLE = "ATTAIN_TOKEN"  # noqa: S105 - the name of a variable
TIMEOUT_S = 35.0
"""A little longer than the service takes for its longest answer."""
SHOWN_PAYEES = 20

app = typer.Typer(
    name="plan",
    help="Plans as files: lint, diff, apply.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Paths = Annotated[
    list[Path], typer.Argument(exists=True, help="YAML or JSON files, or folders of them.")
]
Url = Annotated[
    str, typer.Option(envvar="ATTAIN_URL_COMMISSIONS", help="Where the commissions service is.")
]
TokenFile = Annotated[
    Path | None,
    typer.Option(help=f"A file that holds an access token; else {TOKEN_VARIABLE} does."),
]


@dataclass(frozen=True, slots=True)
class Told:
    """A finding about a document, wherever it was made."""

    place: str
    severity: str
    code: str
    message: str
    figure: str


@app.command(name="lint")
def lint_files(
    paths: Paths,
    *,
    strict: Annotated[bool, typer.Option(help="Warnings count as refusals.")] = False,
    url: Annotated[
        str | None, typer.Option(help="Ask this service for what only its data shows.")
    ] = None,
    token_file: TokenFile = None,
) -> None:
    """Say what is wrong with plans and what their author should know; 1 where one is refused."""
    out = _console()
    documents = _read(out, paths)
    found = _linted(documents)
    if url is not None and not _is_refused(found, strict=False):
        found = _with_service(
            out, url, token_file, lambda service: _linted_there(service, documents)
        )
    _show(out, found)
    counted = {severity.value: 0 for severity in Severity}
    for entry in found:
        counted[entry.severity] += 1
    out.print(
        f"{len(documents)} plan version(s): {counted[Severity.REFUSED]} refused, "
        f"{counted[Severity.WARNED]} warning(s)",
        highlight=False,
    )
    raise typer.Exit(1 if _is_refused(found, strict=strict) else 0)


@app.command()
def diff(
    paths: Paths,
    *,
    pay: Annotated[bool, typer.Option(help="Also what everybody would earn.")] = True,
    exit_code: Annotated[bool, typer.Option(help="Exit with 2 where apply has work.")] = False,
    url: Url,
    token_file: TokenFile = None,
) -> None:
    """Show what apply would change."""
    out = _console()
    plans = _parsed(out, _read(out, paths))

    async def show(service: PlanService) -> bool:
        pending = False
        for plan_id, documents in plans.items():
            compared = await service.compare(plan_id, documents)
            _show_plan(out, compared)
            for change in compared.changes:
                pending |= change.state in {"new", "conflict"}
                if pay and change.state in {"new", "conflict"}:
                    document = change.parsed.source.document
                    _show_pay(out, await service.lint(document, differences=True))
        return pending

    pending = _with_service(out, url, token_file, show)
    raise typer.Exit(2 if pending and exit_code else 0)


@app.command()
def apply(
    paths: Paths,
    *,
    adopt: Annotated[bool, typer.Option(help="Keep plans in files from now on.")] = False,
    release: Annotated[
        bool, typer.Option(help="Keep plans in files no longer; saves nothing.")
    ] = False,
    url: Url,
    token_file: TokenFile = None,
) -> None:
    """Save what is new. The same files again change nothing."""
    out = _console()
    documents = _read(out, paths)
    plans = _parsed(out, documents)
    if adopt and release:
        _stop(out, "give --adopt or --release, not both", 2)
    _refuse(out, _linted(documents))

    async def save(service: PlanService) -> None:
        compared = [await service.compare(plan_id, files) for plan_id, files in plans.items()]
        if release:
            for plan in compared:
                await service.keep_in(plan.plan_id, "api")
                out.print(f"{plan.plan_id}: kept over the API from now on", highlight=False)
            return
        _refuse_conflicts(out, compared, adopt=adopt)
        fresh = [c.parsed.source for plan in compared for c in plan.changes if c.state == "new"]
        found = await _linted_there(service, fresh)
        _show(out, found)
        _refuse(out, found, shown=True)
        for plan in compared:
            if plan.kept_in == "api" and adopt:
                await service.keep_in(plan.plan_id, "files")
                out.print(f"{plan.plan_id}: kept in files from now on", highlight=False)
            for change in plan.changes:
                await _apply(out, service, change)

    _with_service(out, url, token_file, save)


async def _apply(out: Console, service: PlanService, change: Change) -> None:
    name = f"{change.parsed.version.id} version {change.number}"
    if change.state in {"saved", "proposed"}:
        waits = "; it waits for a second person" if change.state == "proposed" else ""
        out.print(f"{name}: unchanged{waits}", highlight=False)
        return
    try:
        state, answer = await service.save(change)
    except ServiceRefused as refused:
        for pointer, message in refused.faults:
            out.print(_line(str(change.parsed.source.place_of(pointer)), "refused", message))
        raise
    if state != "proposed":
        told = f"saved, from {change.parsed.first}" if state == "new" else "unchanged"
        out.print(f"{name}: {told}", highlight=False)
        return
    moved = answer["differences"]
    told = "what it moves is not known yet, or not yours to see"
    if moved is not None:
        told = (
            f"it moves {moved['difference']} {change.parsed.version.currency} of closed periods, "
            f"of {len(moved['payees']) + moved['untold']} statement(s)"
        )
    out.print(f"{name}: proposed, {told}; a second person has to confirm it", highlight=False)


# ---- reading and judging -----------------------------------------------------------------------


def _console() -> Console:
    return Console(soft_wrap=True)


def _stop(out: Console, message: str, code: int = 1) -> None:
    out.print(f"attain plan: {escape(message)}", highlight=False)
    raise typer.Exit(code)


def _read(out: Console, paths: Iterable[Path]) -> list[PlanDocument]:
    try:
        found = read_files(paths)
    except Unreadable as error:
        out.print(_line(str(error.place), "refused", f"unreadable: {error.message}"))
        raise typer.Exit(1) from None
    if not found:
        _stop(out, "there is no .yaml, .yml or .json file in these folders")
    return found


def _parsed(out: Console, documents: Sequence[PlanDocument]) -> dict[str, list[Parsed]]:
    try:
        return parsed_by_plan(documents)
    except PlanInvalid:
        _show(out, _linted(documents))
        raise typer.Exit(1) from None


def _linted(documents: Iterable[PlanDocument]) -> list[Told]:
    """What the documents say by themselves, each plan's versions in the order of their days."""
    found: list[Told] = []
    read: list[Parsed] = []
    for source in documents:
        try:
            read.append(Parsed(source, parse_plan(source.document)))
        except PlanInvalid as refusal:
            found.extend(_invalid(source, refusal))
    read.sort(key=lambda document: (document.version.id, document.first))
    for _, versions in groupby(read, key=lambda document: document.version.id):
        earlier: list[PlanVersion] = []
        for document in versions:
            try:
                Plan(document.version.id, (*earlier, document.version))
            except PlanInvalid as refusal:
                found.extend(_invalid(document.source, refusal))
                continue
            known = LintContext(previous=earlier[-1] if earlier else None)
            found.extend(_told(document.source, lint(document.version, known)))
            earlier.append(document.version)
    return found


def _invalid(source: PlanDocument, refusal: PlanInvalid) -> Iterable[Told]:
    for entry in refusal.problems:
        place = str(source.place_of(entry.pointer))
        yield Told(place, Severity.REFUSED.value, "plan_invalid", entry.message, "")


def _told(source: PlanDocument, found: Iterable[Finding]) -> Iterable[Told]:
    for entry in found:
        place = str(source.place_of(entry.pointer))
        figure = f"{to_text(entry.figure)} {entry.unit}"
        yield Told(place, entry.severity.value, entry.code, entry.message, figure)


async def _linted_there(service: PlanService, documents: Iterable[PlanDocument]) -> list[Told]:
    """What the service says of them, which knows their surroundings."""
    found: list[Told] = []
    for source in documents:
        answer = await service.lint(source.document)
        for entry in answer["findings"]:
            place = str(source.place_of(entry["pointer"]))
            figure = f"{entry['figure']} {entry['unit']}"
            told = Told(place, entry["severity"], entry["code"], entry["message"], figure)
            found.append(told)
    return found


def _is_refused(found: Iterable[Told], *, strict: bool) -> bool:
    return any(strict or entry.severity == Severity.REFUSED for entry in found)


def _refuse(out: Console, found: Sequence[Told], *, shown: bool = False) -> None:
    if _is_refused(found, strict=False):
        if not shown:
            _show(out, found)
        _stop(out, "refused; nothing was saved")


def _refuse_conflicts(out: Console, compared: Iterable[PlanChanges], *, adopt: bool) -> None:
    for plan in compared:
        if plan.kept_in == "api" and not adopt:
            msg = f"{plan.plan_id} is kept over the API; --adopt keeps it in files from now on"
            _stop(out, msg)
        for change in plan.changes:
            if change.state == "conflict":
                place = str(change.parsed.source.place_of("/effective/from"))
                msg = (
                    f"version {change.number} is saved with this first day and never changes: "
                    "put it back, and write what is new as a version of a later day"
                )
                out.print(_line(place, "refused", msg))
                raise typer.Exit(1)


# ---- the service -------------------------------------------------------------------------------


def _with_service(
    out: Console,
    url: str,
    token_file: Path | None,
    work: Callable[[PlanService], Awaitable[Any]],
) -> Any:  # noqa: ANN401 - what the work gives
    """Work with the service; what it refuses is told, and ends the command."""
    try:
        token = token_file.read_text().strip() if token_file else os.environ.get(TOKEN_VARIABLE)
    except OSError as error:
        _stop(out, f"{token_file} cannot be read: {error.strerror}", 2)
    if not token:
        _stop(out, f"the service asks who you are: set {TOKEN_VARIABLE} or --token-file", 2)

    async def run() -> Any:  # noqa: ANN401 - as above
        client = create_client(service="attain plan", base_url=url, timeout_s=TIMEOUT_S)
        async with client:
            client.headers["Authorization"] = f"Bearer {token}"
            return await work(PlanService(client))

    try:
        return asyncio.run(run())
    except ServiceRefused as refused:
        _stop(out, refused.message)


# ---- showing -----------------------------------------------------------------------------------

_COLOURS = {"refused": "red", "warned": "yellow"}


def _line(place: str, severity: str, message: str) -> str:
    colour = _COLOURS[severity]
    return f"{escape(place)}: [{colour}]{severity}[/{colour}] {escape(message)}"


def _show(out: Console, found: Iterable[Told]) -> None:
    for entry in found:
        figure = f" [{entry.figure}]" if entry.figure else ""
        message = f"{entry.code}: {entry.message}{figure}"
        out.print(_line(entry.place, entry.severity, message), highlight=False)


def _show_plan(out: Console, plan: PlanChanges) -> None:
    kept = "new" if plan.kept_in is None else f"kept in {plan.kept_in}"
    out.print(f"[bold]{escape(plan.plan_id)}[/bold] ({kept})", highlight=False)
    for change in plan.changes:
        place = escape(str(change.parsed.source.start))
        said = f"version {change.number} from {change.parsed.first}: {change.state}"
        out.print(f"  {said} ({place})", highlight=False)
        if change.state in {"new", "conflict"} and change.before is not None:
            for edit in edits(change.before, change.parsed.source.document):
                out.print(_edited(edit.pointer, edit.before, edit.after), highlight=False)
    for number, first in plan.elsewhere:
        out.print(f"  version {number} from {first}: saved, and in no file", highlight=False)


def _edited(pointer: str, before: object, after: object) -> str:
    place = escape(pointer)
    if before is None:
        return f"    [green]+ {place}: {escape(_short(after))}[/green]"
    if after is None:
        return f"    [red]- {place}: {escape(_short(before))}[/red]"
    return f"    [yellow]~ {place}: {escape(_short(before))} → {escape(_short(after))}[/yellow]"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}…"  # noqa: PLR2004 - a line


def _show_pay(out: Console, linted: Mapping[str, Any]) -> None:
    moved = linted["differences"]
    if moved is None:
        return
    if not moved["periods"]:
        out.print("    nobody's pay changes", highlight=False)
        return
    table = Table("period", "before", "after", "difference", "payees", box=None, pad_edge=True)
    for row in moved["periods"]:
        figures = (row["before"], row["after"], row["difference"], str(row["payees"]))
        table.add_row(f"{row['period']} {row['currency']}", *figures)
    out.print(table)
    rows = moved["payees"][:SHOWN_PAYEES]
    table = Table("payee", "period", "before", "after", "difference", box=None, pad_edge=True)
    for row in rows:
        table.add_row(
            escape(row["payee"]), row["period"], row["before"], row["after"], row["difference"]
        )
    out.print(table)
    untold = len(moved["payees"]) - len(rows) + moved["untold"]
    if untold:
        out.print(f"    and {untold} more", highlight=False)
    if moved["recalculating"]:
        out.print("    something else is being worked in; part of this may be that")
