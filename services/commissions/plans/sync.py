"""Plan files against a running service: what is new, what would change, and saving it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import quote

import httpx

from services.commissions.domain.parse import parse_plan, plan_hash
from services.commissions.domain.plan import PlanVersion
from services.commissions.plans.files import PlanDocument
from shared.errors import AttainError

State = Literal["saved", "proposed", "new", "conflict"]


class ServiceRefused(AttainError):
    """The service answered with a problem. faults: (pointer, what)."""

    def __init__(self, status: int, message: str, faults: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document of a file and what it means."""

    source: PlanDocument
    version: PlanVersion

    @property
    def first(self) -> date:
        """The version's first day."""
        return self.version.effective.first or date.min


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one document.

    state: `saved` already, `proposed` and waiting for a second person, `new`, or in `conflict` with
    a saved version that begins on the same day. number: its version number there.
    before: the document of the version in force before, or of the one in conflict.
    """

    parsed: Parsed
    state: State
    number: int
    before: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class PlanChanges:
    """All documents of one plan. kept_in: None where the service has no such plan yet.

    elsewhere: saved versions, as (number, first day), that no file holds.
    """

    plan_id: str
    kept_in: str | None
    changes: tuple[Change, ...]
    elsewhere: tuple[tuple[int, str], ...]


class PlanService:
    """The routes of the service that plan files need. `client` carries its address and a token."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def compare(self, plan_id: str, documents: Sequence[Parsed]) -> PlanChanges:
        """What would become of a plan's documents. Raises ServiceRefused."""
        versions = await self._versions(plan_id)
        waiting = await self._waiting(plan_id)
        by_hash = {row["hash"]: row["version"] for row in versions}
        free = max([*by_hash.values(), *waiting.values()], default=0) + 1
        changes = []
        for parsed in sorted(documents, key=lambda document: document.first):
            mine = parsed.version.hash
            day = parsed.first.isoformat()
            same_day = [row for row in versions if row["effective_from"] == day]
            state: State = "saved" if mine in by_hash else "new"
            number = by_hash.get(mine) or waiting.get(mine) or free
            if state == "new" and mine in waiting:
                state = "proposed"
            elif state == "new" and same_day:
                state, number = "conflict", same_day[0]["version"]
            elif state == "new":
                free += 1
            before = same_day[:1] or [r for r in versions if r["effective_from"] < day][-1:]
            changes.append(
                Change(
                    parsed, state, number, await self._before(plan_id, parsed, documents, before)
                )
            )
        known = {change.parsed.version.hash for change in changes}
        elsewhere = tuple(
            (row["version"], row["effective_from"]) for row in versions if row["hash"] not in known
        )
        kept_in = versions[-1]["kept_in"] if versions else None
        return PlanChanges(plan_id, kept_in, tuple(changes), elsewhere)

    async def _before(
        self,
        plan_id: str,
        parsed: Parsed,
        documents: Iterable[Parsed],
        saved: Sequence[Mapping[str, Any]],
    ) -> Mapping[str, Any] | None:
        """The document to compare with: of a file where that is nearer than what is saved."""
        nearest = max(
            (d for d in documents if d.first < parsed.first), key=lambda d: d.first, default=None
        )
        if nearest is not None and (
            not saved or nearest.first.isoformat() > saved[0]["effective_from"]
        ):
            return nearest.source.document
        if not saved:
            return None
        found = await self._ask("GET", f"{_path(plan_id)}/versions/{saved[0]['version']}")
        document: Mapping[str, Any] = found["document"]
        return document

    async def _versions(self, plan_id: str) -> list[dict[str, Any]]:
        """Saved versions by first day."""
        try:
            found: list[dict[str, Any]] = await self._ask("GET", f"{_path(plan_id)}/versions")
        except ServiceRefused as refused:
            if refused.status == HTTPStatus.NOT_FOUND:
                return []
            raise
        return sorted(found, key=lambda row: str(row["effective_from"]))

    async def _waiting(self, plan_id: str) -> dict[str, int]:
        """Hash → number of versions that wait for a second person."""
        found: dict[str, int] = {}
        cursor: str | None = None
        while True:
            params = {"plan": plan_id, "state": "proposed", "limit": "500"}
            page = await self._ask(
                "GET", "/v1/proposals", params=params | ({"cursor": cursor} if cursor else {})
            )
            for row in page["data"]:
                if row["subject"].startswith("plan/"):
                    found[plan_hash(row["said"]["document"])] = row["said"]["version"]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    async def lint(
        self, document: Mapping[str, Any], *, differences: bool = False
    ) -> Mapping[str, Any]:
        """Findings, and what everybody would earn. Raises ServiceRefused."""
        found: Mapping[str, Any] = await self._ask(
            "POST",
            "/v1/plans/lint",
            json=dict(document),
            params={"differences": str(differences).lower()},
        )
        return found

    async def save(self, change: Change) -> tuple[State, Mapping[str, Any]]:
        """Save a version: what it was or has become, and the answer. Raises ServiceRefused."""
        plan_id = change.parsed.version.id
        answer = await self._send(
            "PUT",
            f"{_path(plan_id)}/versions/{change.number}",
            json=dict(change.parsed.source.document),
            params={"kept_in": "files", "strict": "true"},
        )
        body: Mapping[str, Any] = answer.json()
        states: dict[int, State] = {HTTPStatus.ACCEPTED: "proposed", HTTPStatus.CREATED: "new"}
        return states.get(answer.status_code, "saved"), body

    async def keep_in(self, plan_id: str, kept_in: str) -> None:
        """Keep a saved plan there from now on. Raises ServiceRefused."""
        await self._ask("PUT", f"{_path(plan_id)}/keeping", json={"kept_in": kept_in})

    async def _ask(self, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401 - JSON
        return (await self._send(method, path, **options)).json()

    async def _send(self, method: str, path: str, **options: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            answer = await self._client.request(method, path, **options)
        except httpx.HTTPError as error:
            msg = f"{self._client.base_url} does not answer: {str(error) or type(error).__name__}"
            raise ServiceRefused(0, msg) from None
        if answer.is_success:
            return answer
        try:
            said = answer.json()
            faults = [(e["pointer"], e["detail"]) for e in said.get("errors") or ()]
            raise ServiceRefused(answer.status_code, str(said["detail"]), faults)
        except (ValueError, KeyError, TypeError):
            msg = f"{method} {path} answered {answer.status_code}"
            raise ServiceRefused(answer.status_code, msg) from None


def _path(plan_id: str) -> str:
    return f"/v1/plans/{quote(plan_id, safe='')}"


def parsed_by_plan(documents: Iterable[PlanDocument]) -> dict[str, list[Parsed]]:
    """Documents of each plan. Raises PlanInvalid."""
    found: dict[str, list[Parsed]] = {}
    for source in documents:
        version = parse_plan(source.document)
        found.setdefault(version.id, []).append(Parsed(source, version))
    return found


@dataclass(frozen=True, slots=True)
class Edit:
    """One place at which two documents differ; None: not there."""

    pointer: str
    before: object
    after: object


def edits(before: object, after: object, pointer: str = "") -> Iterator[Edit]:
    """Places at which two documents differ. Entries with an id are compared by it, in any order."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from edits(before.get(key), after.get(key), f"{pointer}/{key}")
    elif isinstance(before, list) and isinstance(after, list):
        old, new = _entries(before), _entries(after)
        for key in [*old, *(key for key in new if key not in old)]:
            yield from edits(old.get(key), new.get(key), f"{pointer}/{key}")
    elif plan_hash({"": before}) != plan_hash({"": after}):
        yield Edit(pointer, before, after)


def _entries(entries: list[Any]) -> dict[str, Any]:
    """Entries by their ids where all have one, else by their places."""
    ids = [
        str(entry["id"]) if isinstance(entry, Mapping) and "id" in entry else ""
        for entry in entries
    ]
    if all(ids) and len(set(ids)) == len(ids):
        return dict(zip(ids, entries, strict=True))
    return {str(place): entry for place, entry in enumerate(entries)}
