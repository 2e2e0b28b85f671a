"""Tokens: only what our issuer signed, for us, now. And every route says what it demands."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from joserfc import jws, jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from shared.clock import FixedClock
from shared.errors import Misconfigured, Refused
from shared.http import tokens
from shared.http.app import create_app
from shared.http.auth import Role, Unauthenticated, require
from shared.http.keys import LOCAL_AUDIENCE, LOCAL_ISSUER, generate_key_pair, sign_token
from shared.http.tokens import LEEWAY_S, KeyFile, KeyRing, KeyUrl, TokenVerifier
from shared.telemetry.catalogue import Telemetry
from tests.unit.http.conftest import Keys, Sign, client_of


def claims(**changes: object) -> dict[str, object]:
    """Claims of a good token, changed; None removes one."""
    now = int(time.time())
    good: dict[str, object] = {
        "iss": LOCAL_ISSUER,
        "aud": LOCAL_AUDIENCE,
        "sub": "acme:u1",
        "person": "acme:u1",
        "iat": now,
        "exp": now + 600,
        "roles": ["manager"],
        "scope": "",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


def forge(keys: Keys, header: Mapping[str, object] | None = None, **changes: object) -> str:
    """A token signed by the right key, with a changed header or claims."""
    full = {"alg": "ES256", "typ": "at+jwt", "kid": keys.private.kid, **(header or {})}
    full = {name: value for name, value in full.items() if value is not None}
    registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    if "crit" in full:
        return _by_hand(keys.private, full, claims(**changes))
    return jwt.encode(full, claims(**changes), keys.private, registry=registry, default_type=None)


def _part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


def _by_hand(key: ECKey, header: Mapping[str, object], body: Mapping[str, object]) -> str:
    """A correctly signed token with any header at all."""
    signing_input = f"{_part(header)}.{_part(body)}"
    signature = jws.JWSRegistry.algorithms["ES256"].sign(signing_input.encode(), key)
    return f"{signing_input}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def _unsigned(algorithm: str, kid: str | None) -> str:
    return f"{_part({'alg': algorithm, 'typ': 'at+jwt', 'kid': kid})}.{_part(claims())}."


def _hmac_with_public_key(keys: Keys) -> str:
    secret = OctKey.import_key(json.dumps(keys.jwks["keys"][0]))
    header = {"alg": "HS256", "typ": "at+jwt", "kid": keys.private.kid}
    return jwt.encode(header, claims(), secret, algorithms=["HS256"])


def _by_another_key(keys: Keys) -> str:
    other = ECKey.generate_key("P-256")
    header = {"alg": "ES256", "typ": "at+jwt", "kid": keys.private.kid}
    return jwt.encode(header, claims(), other, algorithms=["ES256"])


def _tampered(keys: Keys) -> str:
    head, _, signature = forge(keys).split(".")
    return f"{head}.{_part(claims(roles=['finance']))}.{signature}"


def _rsa_with_ec_kid(keys: Keys) -> str:
    header = {"alg": "RS256", "typ": "at+jwt", "kid": keys.private.kid}
    return jwt.encode(header, claims(), RSAKey.generate_key(2048), algorithms=["RS256"])


def corpus(keys: Keys) -> dict[str, str]:
    """Tokens that must be refused, by name."""
    now = int(time.time())
    own = json.loads(json.dumps(keys.private.as_dict(private=False)))
    return {
        "none": _unsigned("none", keys.private.kid),
        "None in capitals": _unsigned("NONE", keys.private.kid),
        "no signature": _unsigned("ES256", keys.private.kid),
        "HMAC with the public key": _hmac_with_public_key(keys),
        "another key": _by_another_key(keys),
        "tampered claims": _tampered(keys),
        "RSA under an EC key's id": _rsa_with_ec_kid(keys),
        "audience of another": forge(keys, aud="payroll"),
        "audience in part": forge(keys, aud="attain-other"),
        "no audience": forge(keys, aud=None),
        "audiences without us": forge(keys, aud=["a", "b"]),
        "another issuer": forge(keys, iss="urn:evil"),
        "no issuer": forge(keys, iss=None),
        "expired": forge(keys, iat=now - 700, exp=now - 100),
        "no expiry": forge(keys, exp=None),
        "expiry as text": forge(keys, exp=str(now + 60)),
        "expiry true": forge(keys, exp=True),
        "lives too long": forge(keys, exp=now + 7_200),
        "ends before it begins": forge(keys, iat=now + 20, exp=now + 10),
        "from the future": forge(keys, iat=now + 300, exp=now + 600),
        "not yet": forge(keys, nbf=now + 300),
        "no issue time": forge(keys, iat=None),
        "no subject": forge(keys, sub=None),
        "empty subject": forge(keys, sub=""),
        "subject a number": forge(keys, sub=7),
        "person a list": forge(keys, person=["acme:u1"]),
        "roles a text": forge(keys, roles="manager"),
        "unknown crit": forge(keys, {"crit": ["exp"]}),
        "made-up crit": forge(keys, {"crit": ["urn:x"], "urn:x": 1}),
        "unencoded payload": forge(keys, {"crit": ["b64"], "b64": False}),
        "brings its own key": forge(keys, {"jwk": own}),
        "points to a key": forge(keys, {"jku": "http://127.0.0.1:1/keys"}),
        "no kid": forge(keys, {"kid": None}),
        "unknown kid": forge(keys, {"kid": "other"}),
        "kid a path": forge(keys, {"kid": "../../../../dev/null"}),
        "kid SQL": forge(keys, {"kid": "x'OR'1'='1"}),
        "kid with NUL": _by_hand(
            keys.private, {"alg": "ES256", "typ": "at+jwt", "kid": "a\x00b"}, claims()
        ),
        "kid a list": _by_hand(
            keys.private, {"alg": "ES256", "typ": "at+jwt", "kid": ["a"]}, claims()
        ),
        "no type": forge(keys, {"typ": None}),
        "an ID token's cousin": forge(keys, {"typ": "logout+jwt"}),
        "huge": forge(keys, note="x" * 9_000),
        "nested deep": _by_hand(keys.private, {"alg": "ES256"}, {})[:0]
        + base64.urlsafe_b64encode(b"[" * 3_000).decode().rstrip("=")
        + ".e30.e30",
        "two parts": "e30.e30",
        "encrypted": "e30.e30.e30.e30.e30",
        "not base64": "a.b!.c",
        "empty": "",
    }


async def test_no_token_of_the_corpus_is_believed(keys: Keys, verifier: TokenVerifier) -> None:
    for name, token in corpus(keys).items():
        try:
            await verifier.verify(token)
        except Unauthenticated:
            continue
        pytest.fail(f"believed: {name}")


async def test_a_refusal_is_a_401_that_tells_nothing(app: FastAPI, keys: Keys) -> None:
    async with client_of(app) as client:
        for name, token in corpus(keys).items():
            if "\x00" in token:
                continue
            headers = {"Authorization": f"Bearer {token}"}
            response = await client.get("/v1/me", headers=headers)
            assert response.status_code == 401, name
            assert response.headers["www-authenticate"].startswith("Bearer ")
            assert response.json()["type"] == "urn:attain:problem:unauthenticated"
        for wrong in ("Basic YTpi", "Bearer", f"Token {forge(keys)}"):
            response = await client.get("/v1/me", headers={"Authorization": wrong})
            assert response.status_code == 401
        twice = [("Authorization", f"Bearer {forge(keys)}")] * 2
        assert (await client.get("/v1/me", headers=twice)).status_code == 401
        missing = await client.get("/v1/me")
    assert missing.headers["www-authenticate"] == 'Bearer realm="attain"'


async def test_a_good_token_names_its_caller(app: FastAPI, sign: Sign) -> None:
    async with client_of(app) as client:
        headers = {"Authorization": f"Bearer {sign(Role.REP)}", "X-Request-Id": "r1"}
        response = await client.get("/v1/me", headers=headers)
    assert response.json() == {"person": "acme:u1", "request_id": "r1"}


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_algorithms_of_identity_providers_are_accepted(tmp_path: Path) -> None:
    for algorithm, key in (
        ("RS256", RSAKey.generate_key(2048, auto_kid=True)),
        ("EdDSA", OKPKey.generate_key("Ed25519", auto_kid=True)),
        ("Ed25519", OKPKey.generate_key("Ed25519", auto_kid=True)),
    ):
        path = tmp_path / f"{algorithm}.json"
        path.write_text(json.dumps({"keys": [key.as_dict(private=False)]}))
        verifier = TokenVerifier(
            KeyRing(KeyFile(path)), issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE
        )
        header = {"alg": algorithm, "typ": "JWT", "kid": key.kid}
        token = jwt.encode(header, claims(aud=["x", "attain"]), key, algorithms=[algorithm])
        principal = await verifier.verify(token)
        assert principal.roles == {Role.MANAGER}


async def test_unknown_roles_give_nothing(keys: Keys, verifier: TokenVerifier) -> None:
    principal = await verifier.verify(forge(keys, roles=["root", "rep", 7, None]))
    assert principal.roles == {Role.REP}


@pytest.mark.parametrize(
    ("roles", "scopes", "status"),
    [
        ([Role.MANAGER], (), 200),
        ([Role.REP], (), 403),
        ([], (), 403),
        ([Role.SERVICE], ("quotas:write",), 200),
        ([Role.SERVICE], ("quotas:read",), 403),
        ([Role.REP], ("quotas:write",), 403),
    ],
)
async def test_permission_is_a_role_or_a_machine_with_scopes(
    app: FastAPI, sign: Sign, roles: list[Role], scopes: tuple[str, ...], status: int
) -> None:
    headers = {"Authorization": f"Bearer {sign(*roles, scopes=scopes)}"}
    async with client_of(app) as client:
        body = {"rep": "x", "amount": "12.50"}
        response = await client.put("/v1/quotas/q1", json=body, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.json()["type"] == "urn:attain:problem:forbidden"
        assert "insufficient_scope" in response.headers["www-authenticate"]
    else:
        assert response.json() == {"rep": "x", "amount": "12.5", "weight": 1.0}


@pytest.mark.parametrize("prefix", [None, "/outer"])
def test_a_route_without_a_permission_refuses_to_start(
    verifier: TokenVerifier, prefix: str | None
) -> None:
    inner = APIRouter()

    @inner.get("/v1/open")
    async def undeclared() -> dict[str, str]:
        return {}

    outer = APIRouter(prefix=prefix or "")
    outer.include_router(inner)

    def create(router: APIRouter) -> FastAPI:
        return create_app(
            title="t",
            service="t",
            routers=[router],
            verifier=verifier,
            readiness={},
            telemetry=Telemetry("t"),
        )

    with pytest.raises(Misconfigured, match=r"GET .*/v1/open"):
        create(outer if prefix else inner)
    guarded = APIRouter(dependencies=[require(Role.ADMIN)])
    guarded.include_router(inner)
    create(guarded)


class Provider:
    """An identity provider's key endpoint that counts and can be away."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        self.away = False
        self.asked = 0

    async def answer(self, _request: httpx.Request) -> httpx.Response:
        """One look-up."""
        self.asked += 1
        if self.away:
            message = "away"
            raise httpx.ConnectError(message)
        return httpx.Response(200, json=self.document)


async def test_keys_by_url_are_cached_and_a_storm_of_unknown_ids_stays_inside(keys: Keys) -> None:
    provider = Provider(keys.jwks)
    async with httpx.AsyncClient(transport=httpx.MockTransport(provider.answer)) as client:
        ring = KeyRing(KeyUrl("https://id.example/keys", client))
        verifier = TokenVerifier(ring, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE)
        for number in range(20):
            await verifier.verify(forge(keys))
            with pytest.raises(Unauthenticated):
                await verifier.verify(forge(keys, {"kid": f"k{number}"}))
        assert provider.asked == 1
        provider.away = True
        await verifier.verify(forge(keys))


async def test_a_token_seen_before_is_judged_again_by_the_time(keys: Keys) -> None:
    clock = FixedClock(datetime.now(UTC))
    ring = KeyRing(KeyFile(keys.jwks_path))
    verifier = TokenVerifier(ring, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE, clock=clock)
    token = forge(keys)
    first = await verifier.verify(token)
    assert await verifier.verify(token) == first
    clock.instant += timedelta(seconds=600 + LEEWAY_S)
    with pytest.raises(Unauthenticated) as refusal:
        await verifier.verify(token)
    assert refusal.value.reason == "expired"


async def test_a_token_seen_before_dies_with_its_key(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = Provider(keys.jwks)
    async with httpx.AsyncClient(transport=httpx.MockTransport(provider.answer)) as client:
        ring = KeyRing(KeyUrl("https://id.example/keys", client))
        verifier = TokenVerifier(ring, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE)
        token = forge(keys)
        await verifier.verify(token)
        other = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
        replaced = {**other.as_dict(private=False), "kid": keys.private.kid}
        for document, reason in (({"keys": [replaced]}, "signature"), ({"keys": []}, "kid")):
            provider.document = document
            monkeypatch.setattr(ring, "_read_at", float("-inf"))
            monkeypatch.setattr(ring, "_tried_at", float("-inf"))
            with pytest.raises(Unauthenticated) as refusal:
                await verifier.verify(token)
            assert refusal.value.reason == reason


async def test_tokens_seen_are_not_kept_without_end(
    keys: Keys, verifier: TokenVerifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "MAX_SEEN", 2)
    several = [forge(keys, sub=f"acme:u{number}") for number in range(4)]
    for token in [*several, *several]:
        await verifier.verify(token)
    assert len(verifier._seen) == 2
    assert not any(token in repr(verifier._seen) for token in several)


async def test_without_any_key_nobody_is_believed_and_nobody_is_blamed(keys: Keys) -> None:
    provider = Provider(keys.jwks)
    provider.away = True
    async with httpx.AsyncClient(transport=httpx.MockTransport(provider.answer)) as client:
        ring = KeyRing(KeyUrl("https://id.example/keys", client))
        verifier = TokenVerifier(ring, issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE)
        for _ in range(10):
            with pytest.raises(Refused) as refusal:
                await verifier.verify(forge(keys))
            assert refusal.value.status == 503
        assert provider.asked == 1
        with pytest.raises(Unauthenticated):
            await verifier.verify(_unsigned("none", "x"))


async def test_symmetric_keys_in_a_key_set_are_never_used(tmp_path: Path) -> None:
    secret = OctKey.import_key("s" * 32)
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [{**secret.as_dict(private=True), "kid": "k1"}]}))
    verifier = TokenVerifier(KeyRing(KeyFile(path)), issuer=LOCAL_ISSUER, audience=LOCAL_AUDIENCE)
    token = jwt.encode({"alg": "HS256", "kid": "k1"}, claims(), secret, algorithms=["HS256"])
    with pytest.raises(Unauthenticated):
        await verifier.verify(token)


def test_a_key_pair_survives_a_restart_and_stays_private(tmp_path: Path) -> None:
    private, public = tmp_path / "a" / "signing.json", tmp_path / "b" / "jwks.json"
    generate_key_pair(private, public)
    first = private.read_text(), public.read_text()
    public.unlink()
    generate_key_pair(private, public)
    assert (private.read_text(), public.read_text()) == first
    assert private.stat().st_mode & 0o777 == 0o600
    assert '"d"' not in public.read_text()


async def test_a_signed_token_is_believed(keys: Keys, verifier: TokenVerifier) -> None:
    token = sign_token(
        keys.private, subject="m1", now=datetime.now(UTC), roles=[Role.SERVICE], scopes=["b", "a"]
    )
    principal = await verifier.verify(token)
    assert principal.person_id is None
    assert principal.scopes == {"a", "b"}
