"""`/v1/sources`: connections to CRMs. Secrets go in and never come out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from pydantic import Field, SecretStr, model_validator
from starlette.responses import Response

from services.ingest import handlers, store
from services.ingest.api.shared import Administrator, SourceReader, ingest_of
from services.ingest.handlers import Ingest, SourceChange, source_document, wanted_source
from shared.errors import InvalidValue, Refused
from shared.http.models import Instant, WireModel
from shared.http.paging import Page, Paging, listed, page_of
from shared.http.preconditions import IfMatch, IfNoneMatch, check_write, etag, unchanged

router = APIRouter(prefix="/v1/sources", tags=["sources"])

SourceId = Annotated[
    str,
    Path(
        description="the connection's name, the last part of its hook's address",
        pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$",
    ),
]
Secret = Annotated[SecretStr, Field(min_length=1, max_length=1_000)]
Tenant = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(max_length=200)]


class SourceBody(WireModel):
    """A connection as its administrator states it. The whole of it, except for the secrets."""

    adapter: str = Field(max_length=50, description="which CRM: hubspot")
    tenants: list[Tenant] = Field(
        default_factory=list,
        max_length=1_000,
        description="accounts (portals, organisations) it takes; empty takes every account of "
        "the app whose secret signs",
    )
    tenant: Tenant | None = Field(default=None, description="short for one of `tenants`")
    secrets: list[Secret] | None = Field(
        default=None,
        max_length=5,
        description="all that are live, so that one can be rotated; left out, they stay",
    )
    secret: Secret | None = Field(default=None, description="short for one of `secrets`")
    public_url: str | None = Field(
        default=None,
        max_length=2_000,
        description="the whole address that the CRM was given, which signatures are over; "
        "by default made of this service's own",
    )
    mapping: dict[Name, dict[Name, Name]] = Field(
        default_factory=dict, description="record kind → the CRM's property → field"
    )
    options: dict[Name, Name] = Field(default_factory=dict, description="of this adapter alone")

    @model_validator(mode="after")
    def _one_form(self) -> SourceBody:
        if self.tenant is not None and self.tenants:
            msg = "state tenant or tenants, not both"
            raise InvalidValue(msg)
        if self.secret is not None and self.secrets is not None:
            msg = "state secret or secrets, not both"
            raise InvalidValue(msg)
        return self

    def change(self) -> SourceChange:
        """The same in the use case's words."""
        secrets = [self.secret] if self.secret is not None else self.secrets
        return SourceChange(
            adapter=self.adapter,
            tenants=tuple(self.tenants) if self.tenant is None else (self.tenant,),
            secrets=None
            if secrets is None
            else tuple(secret.get_secret_value() for secret in secrets),
            public_url=self.public_url,
            mapping=self.mapping,
            options=self.options,
        )


class SourceView(WireModel):
    """A connection. Secrets are shown by fingerprint, which tells one from another."""

    id: str
    adapter: str
    tenants: list[str]
    public_url: str
    mapping: dict[str, dict[str, str]]
    options: dict[str, str]
    secret_fingerprints: list[str]
    revision: int = Field(description="of how its deliveries are read; raised by a new mapping")
    version: int
    updated_at: Instant


@router.put(
    "/{source_id}",
    response_model=SourceView,
    responses={201: {"model": SourceView, "description": "Created"}},
)
async def put_source(  # noqa: PLR0913, PLR0917 - one parameter a part of the request
    source_id: SourceId,
    body: SourceBody,
    request: Request,
    principal: Administrator,
    if_match: IfMatch = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Create a connection, or replace it (with If-Match). Stating it unchanged changes nothing."""
    if source_id == handlers.EVENTS:
        msg = "this name stands for POST /v1/events"
        raise Refused("source-name-taken", msg, status=409)
    ingest = ingest_of(request)
    async with ingest.transaction() as tx:
        await store.lock_source_id(tx, source_id)
        stored = await store.load_source(tx, source_id, lock=True)
        wanted, differs = wanted_source(ingest, source_id, body.change(), stored)
        if differs:
            current = None if stored is None else etag(stored.version)
            check_write(current, if_match=if_match, if_none_match=if_none_match)
            change = source_document(ingest, wanted)
            await store.save_source(tx, wanted, actor=principal.subject, change=change)
            written = await store.load_source(tx, source_id)
            wanted = written if written is not None else wanted
    await ingest.sources.refresh()
    return _answer(ingest, wanted, status=201 if stored is None else 200)


@router.get("/{source_id}", response_model=SourceView)
async def get_source(
    source_id: SourceId,
    request: Request,
    _principal: SourceReader,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One connection."""
    ingest = ingest_of(request)
    async with ingest.transaction() as tx:
        stored = await store.load_source(tx, source_id)
    if stored is None:
        raise Refused("not-found", "There is no connection of this name.", status=404)
    if unchanged(etag(stored.version), if_none_match):
        return Response(status_code=304, headers={"ETag": etag(stored.version)})
    return _answer(ingest, stored, status=200)


@router.get("", response_model=Page[SourceView])
async def list_sources(
    request: Request, page: Paging, _principal: SourceReader
) -> Page[SourceView] | Response:
    """All connections, by name."""
    ingest = ingest_of(request)
    after = page.after(str)
    async with ingest.transaction() as tx:
        rows = await store.page_of_sources(
            tx, after=None if after is None else str(after[0]), limit=page.fetch
        )
    found = page_of(rows, page, key=lambda row: (row.id,), show=lambda row: _view(ingest, row))
    return listed(request, found, SourceView)


def _view(ingest: Ingest, source: store.StoredSource) -> SourceView:
    return SourceView.model_validate(
        {
            **source_document(ingest, source),
            "id": source.id,
            "version": source.version,
            "updated_at": source.updated_at,
        }
    )


def _answer(ingest: Ingest, source: store.StoredSource, *, status: int) -> Response:
    return Response(
        _view(ingest, source).model_dump_json(),
        status,
        media_type="application/json",
        headers={"ETag": etag(source.version)},
    )
