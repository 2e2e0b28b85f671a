"""People, teams, calendars, stage maps and exchange rates: stated here, published as facts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from starlette.responses import Response

from services.ingest import store
from services.ingest.api.shared import (
    ReferenceReader,
    ReferenceWriter,
    ingest_of,
    json_body,
)
from services.ingest.domain.rates import rate_rows
from services.ingest.domain.reference import reference_fact
from services.ingest.handlers import Ingest, count_reference, keep_reference
from shared.errors import Refused
from shared.events.envelope import Envelope
from shared.facts.record import Record
from shared.http.models import Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag, unchanged

router = APIRouter(prefix="/v1", tags=["reference data"])

RecordId = Annotated[str, Path(min_length=1, max_length=200, description="the record's id")]

PATHS = {
    "people": "person",
    "teams": "team",
    "calendars": "calendar",
    "stage-maps": "stage_map",
}
"""Record kinds by the last part of their address."""


class Kept(WireModel):
    """A statement that is kept and will be published."""

    id: str = Field(description="the record")
    fact: str = Field(description="the fact's id")
    version: int = Field(description="statements about the record so far; its ETag")


class KeptRates(WireModel):
    """Rates that are kept and will be published."""

    accepted: int
    ids: list[str] = Field(description="ids of the facts, in the order of the rows")


class Stated(WireModel):
    """One value. from: the day, or the instant, from which it holds; null in undated records."""

    field: str
    member: str | None = Field(default=None, description="of a field that is a list of members")
    from_: str | None = Field(default=None, alias="from")
    value: Any


class ReferenceView(WireModel):
    """What was stated about one record; retractions are left out."""

    id: str
    version: int
    updated_at: Instant
    values: list[Stated]


class RateView(WireModel):
    """One unit of `from` is `rate` units of `to`; null was taken back."""

    table: str
    from_: str = Field(alias="from")
    to: str
    day: str
    rate: str | None


def _routes(path: str, kind: str) -> None:
    name = path.replace("-", "_")

    @router.put(
        f"/{path}/{{record_id}}",
        name=f"put_{name}",
        operation_id=f"put_{name}",
        response_model=Kept,
        openapi_extra=json_body(f"fields of the type attain.{kind}.v1; what is absent stays"),
    )
    async def put(
        record_id: RecordId,
        request: Request,
        _principal: ReferenceWriter,
        if_match: IfMatch = None,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """State some fields, from `effective_from` on or from now on; null takes one back."""
        ingest = ingest_of(request)
        body = await request.body()
        async with ingest.transaction() as tx:
            # Locked before the time is taken: of two statements the later one is the later one.
            held = await store.lock_documents(tx, kind, [record_id])
            current = etag(held[record_id][1]) if held[record_id][1] else None
            # Statements fold, so If-Match is the caller's choice here.
            seen = current if if_match is None else if_match
            check_write(current, if_match=seen, if_none_match=if_none_match)
            fact = reference_fact(kind, record_id, body, now=ingest.clock.now())
            versions = await keep_reference(tx, kind, [fact])
        count_reference(ingest, [fact])
        answer = Kept(id=record_id, fact=fact.id, version=versions[record_id])
        return Response(
            answer.model_dump_json(),
            media_type="application/json",
            headers={"ETag": etag(answer.version)},
        )

    @router.get(
        f"/{path}/{{record_id}}",
        name=f"get_{name}",
        operation_id=f"get_{name}",
        response_model=ReferenceView,
    )
    async def get(
        record_id: RecordId,
        request: Request,
        _principal: ReferenceReader,
        if_none_match: IfNoneMatch = None,
    ) -> Response:
        """What was stated, with the days from which it holds."""
        async with ingest_of(request).transaction() as tx:
            document = await store.load_document(tx, kind, record_id)
        if document is None:
            raise Refused("not-found", f"Nothing was stated about this {kind}.", status=404)
        tag = etag(document.version)
        if unchanged(tag, if_none_match):
            return Response(status_code=304, headers={"ETag": tag})
        return Response(
            _view(document).model_dump_json(by_alias=True),
            media_type="application/json",
            headers={"ETag": tag},
        )

    @router.get(
        f"/{path}",
        name=f"list_{name}",
        operation_id=f"list_{name}",
        response_model=Page[ReferenceView],
    )
    async def list_all(
        request: Request, page: Paging, _principal: ReferenceReader
    ) -> Page[ReferenceView] | Response:
        """All of them, by id."""
        rows = await _documents(ingest_of(request), kind, page.after(str), page.fetch)
        found = page_of(rows, page, key=lambda row: (row.id,), show=_view)
        return listed(request, found, ReferenceView)


for _path, _kind in PATHS.items():
    _routes(_path, _kind)


@router.post(
    "/rates",
    response_model=KeptRates,
    openapi_extra=json_body(
        '{"rows": [{"table", "from", "to", "day", "rate"}]}: at most 1000; table is org by default'
    ),
)
async def post_rates(request: Request, _principal: ReferenceWriter) -> Response:
    """State exchange rates; null takes one back. Stating one again changes nothing."""
    ingest = ingest_of(request)
    body = await request.body()
    async with ingest.transaction() as tx:
        facts = rate_rows(body, now=ingest.clock.now())
        await keep_reference(tx, "rate", facts)
    return _kept_rates(ingest, facts)


def _kept_rates(ingest: Ingest, facts: tuple[Envelope, ...]) -> Response:
    count_reference(ingest, facts)
    answer = KeptRates(accepted=len(facts), ids=[fact.id for fact in facts])
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/rates", response_model=Page[RateView])
async def list_rates(
    request: Request,
    page: Paging,
    _principal: ReferenceReader,
    table: Annotated[str | None, Query(max_length=100)] = None,
) -> Page[RateView] | Response:
    """Rates, by table, currencies and day."""
    prefix = "" if table is None else f"{table}:"
    rows = await _documents(ingest_of(request), "rate", page.after(str), page.fetch, prefix)
    found = page_of(rows, page, key=lambda row: (row.id,), show=_rate_view)
    return listed(request, found, RateView)


async def _documents(
    ingest: Ingest, kind: str, after: tuple[str | int, ...] | None, limit: int, prefix: str = ""
) -> list[store.Document]:
    async with ingest.transaction() as tx:
        return await store.page_of_documents(
            tx, kind, prefix=prefix, after=None if after is None else str(after[0]), limit=limit
        )


def _view(document: store.Document) -> ReferenceView:
    values = sorted(
        _stated(document.record), key=lambda v: (v.field, v.member or "", v.from_ or "")
    )
    return ReferenceView(
        id=document.id, version=document.version, updated_at=document.updated_at, values=values
    )


def _stated(record: Record) -> Iterator[Stated]:
    for name in (*record.fields, *record.history):
        said = record.latest(name)
        if said is None or said.value is None:
            continue
        path, _, effective_from = name.partition("@")
        field, _, member = path.partition(":")
        yield Stated.model_validate(
            {
                "field": field,
                "member": member or None,
                "from": effective_from or None,
                "value": said.value,
            }
        )


def _rate_view(document: store.Document) -> RateView:
    names = ("table", "from", "to", "day", "rate")
    return RateView.model_validate({name: document.record.value(name) for name in names})
