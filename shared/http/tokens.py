"""Access tokens: JSON Web Tokens, signed asymmetrically, checked in every claim that we rely on.

Everything cheap is checked before a key is looked up, so that forged tokens cause no traffic
to the key server.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import json
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import httpx
from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import JWKRegistry, Key

from shared.clock import Clock, WallClock
from shared.errors import Misconfigured, Refused
from shared.http.auth import Principal, Role, Unauthenticated
from shared.settings import ServiceSettings
from shared.telemetry.logs import logger

ALGORITHMS = ("ES256", "EdDSA", "Ed25519", "RS256")
"""Asymmetric only. The list is ours: a token never chooses outside of it."""

KEY_TYPE_OF = {"ES256": "EC", "EdDSA": "OKP", "Ed25519": "OKP", "RS256": "RSA"}
TOKEN_TYPES = frozenset(["at+jwt", "application/at+jwt", "jwt"])
HEADERS = frozenset(["alg", "kid", "typ", "x5t", "x5t#S256"])
"""Other headers either bring keys along (jwk, jku, x5u, x5c) or change the meaning (crit, b64)."""

MAX_TOKEN_BYTES = 8_192
MAX_LIFETIME_S = 3_600
LEEWAY_S = 30
"""Clocks of issuer and service may differ by this much."""
MAX_JWKS_BYTES = 262_144
JWKS_FRESH_S = 300.0
JWKS_RETRY_S = 30.0
"""At most one look-up in this time because of an unknown key id or a failed look-up."""
JWKS_STALE_S = 3_600.0
"""Keys older than this are not used when the key server stays away: a revoked key must die."""

MAX_SEEN = 2_048
"""Tokens whose signature is not computed again at each request: it costs more than many an answer.
Kept by fingerprint, never as they are, and only while the ring holds the very key."""

_COMPACT = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TEXT_CLAIM = re.compile(r"[\x21-\x7e]{1,255}")

_log = logger(__name__)

# Providers still sign with the name that RFC 9864 replaced by Ed25519; the algorithm is the same.
warnings.filterwarnings("ignore", message="EdDSA is deprecated", category=SecurityWarning)


class KeySource(Protocol):
    """Where the issuer's public keys come from."""

    async def read(self) -> bytes:
        """The JSON Web Key Set as bytes; raises OSError or httpx.HTTPError."""
        ...


class KeyFile:
    """A JWKS file, as the local stack writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def read(self) -> bytes:
        """The file's content."""
        return await asyncio.to_thread(self._path.read_bytes)


class KeyUrl:
    """A JWKS document over HTTPS, as an identity provider publishes it."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client

    async def read(self) -> bytes:
        """The document, at most MAX_JWKS_BYTES of it."""
        async with self._client.stream("GET", self._url, timeout=5.0) as response:
            response.raise_for_status()
            content = b""
            async for chunk in response.aiter_bytes():
                content += chunk
                if len(content) > MAX_JWKS_BYTES:
                    break
            return content


class KeyRing:
    """The issuer's keys by id: cached, refreshed by age, and once for an unknown id."""

    def __init__(self, source: KeySource) -> None:
        self._source = source
        self._keys: Mapping[str, Key] = {}
        self._read_at = float("-inf")
        self._tried_at = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, kid: str) -> Key | None:
        """The key `kid`, or None when the issuer has no such key.

        Raises Refused (503) when the keys cannot be had at all.
        """
        if kid not in self._keys or time.monotonic() - self._read_at > JWKS_FRESH_S:
            await self._refresh(kid)
        if time.monotonic() - self._read_at > JWKS_STALE_S:
            msg = "The issuer's keys cannot be read at the moment."
            raise Refused("keys-unavailable", msg, status=503)
        return self._keys.get(kid)

    async def _refresh(self, kid: str) -> None:
        async with self._lock:
            now = time.monotonic()
            if kid in self._keys and now - self._read_at <= JWKS_FRESH_S:
                return
            if now - self._tried_at < JWKS_RETRY_S:
                return
            self._tried_at = now
            try:
                keys = _public_keys(await self._source.read())
            except (OSError, httpx.HTTPError, Misconfigured) as failure:
                _log.warning("keys_unavailable", cause=type(failure).__name__)
                return
            self._keys = keys
            self._read_at = time.monotonic()


class _Proven(NamedTuple):
    """A token whose signature held by `key`; what it claims is judged at each use."""

    kid: str
    key: Key
    claims: Mapping[str, object]


class TokenVerifier:
    """Turns an Authorization header into a Principal, or refuses it.

    Tokens live in the machine's time, also where the business runs on a simulated clock.
    """

    def __init__(
        self, keys: KeyRing, *, issuer: str, audience: str, clock: Clock | None = None
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._clock = clock or WallClock()
        self._seen: dict[bytes, _Proven] = {}

    async def authenticate(self, authorization: Sequence[str]) -> Principal:
        """The caller. `authorization`: every Authorization header of the request.

        Raises Unauthenticated (401), or Refused (503) without any key to judge by.
        """
        if not authorization:
            msg = "Send an access token: Authorization: Bearer …"
            raise Unauthenticated(msg, token_given=False)
        scheme, _, token = authorization[0].partition(" ")
        if len(authorization) > 1 or scheme.lower() != "bearer" or not token:
            msg = "Send exactly one header Authorization: Bearer …"
            raise Unauthenticated(msg, reason="scheme")
        try:
            return await self.verify(token.strip())
        except Unauthenticated as refusal:
            _log.info("access_refused", cause=refusal.reason)
            raise

    async def verify(self, token: str) -> Principal:
        """The principal of a compact token; raises Unauthenticated with the reason."""
        if len(token) > MAX_TOKEN_BYTES:
            raise _untrusted("size")
        if not _COMPACT.fullmatch(token):
            raise _untrusted("form")
        fingerprint = hashlib.sha256(token.encode()).digest()
        seen = self._seen.get(fingerprint)
        if seen is None or await self._keys.key(seen.kid) is not seen.key:
            seen = await self._proven(token)
            if len(self._seen) >= MAX_SEEN:
                del self._seen[next(iter(self._seen))]
            self._seen[fingerprint] = seen
        self._check(seen.claims)
        return _principal(seen.claims)

    async def _proven(self, token: str) -> _Proven:
        """What a token claims whose signature is the issuer's."""
        algorithm, kid = _header(token.partition(".")[0])
        key = await self._keys.key(kid)
        if key is None or key.key_type != KEY_TYPE_OF[algorithm]:
            raise _untrusted("kid")
        try:
            claims = jwt.decode(token, key, algorithms=[algorithm]).claims
        except (JoseError, ValueError, TypeError, RecursionError):
            raise _untrusted("signature") from None
        return _Proven(kid, key, claims)

    def _check(self, claims: Mapping[str, object]) -> None:
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if claims.get("iss") != self._issuer:
            raise _untrusted("iss")
        if self._audience not in audiences:
            raise _untrusted("aud")
        issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
        now = self._clock.now().timestamp()
        if expires <= now - LEEWAY_S:
            raise _untrusted("expired")
        if issued > now + LEEWAY_S:
            raise _untrusted("iat")
        if not 0 < expires - issued <= MAX_LIFETIME_S:
            raise _untrusted("lifetime")
        if "nbf" in claims and _seconds(claims, "nbf") > now + LEEWAY_S:
            raise _untrusted("nbf")


def create_verifier(settings: ServiceSettings, client: httpx.AsyncClient) -> TokenVerifier:
    """The verifier that a service's settings describe; `client` reads keys published by URL."""
    source: KeySource
    if settings.jwks_path is not None:
        source = KeyFile(settings.jwks_path)
    else:
        source = KeyUrl(str(settings.jwks_url), client)
    return TokenVerifier(KeyRing(source), issuer=settings.issuer, audience=settings.audience)


def _header(encoded: str) -> tuple[str, str]:
    """Algorithm and key id of a header that holds nothing unexpected."""
    try:
        header = json.loads(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        raise _untrusted("header") from None
    if not isinstance(header, dict) or not header.keys() <= HEADERS:
        raise _untrusted("header")
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ")
    if algorithm not in ALGORITHMS:
        raise _untrusted("alg")
    if not isinstance(kind, str) or kind.lower() not in TOKEN_TYPES:
        raise _untrusted("typ")
    if not isinstance(kid, str) or not _TEXT_CLAIM.fullmatch(kid):
        raise _untrusted("kid")
    return str(algorithm), kid


def _principal(claims: Mapping[str, object]) -> Principal:
    subject, person = claims.get("sub"), claims.get("person")
    roles, scope = claims.get("roles", []), claims.get("scope", "")
    if not isinstance(subject, str) or not _TEXT_CLAIM.fullmatch(subject):
        raise _untrusted("sub")
    if person is not None and not (isinstance(person, str) and _TEXT_CLAIM.fullmatch(person)):
        raise _untrusted("person")
    if not isinstance(roles, list) or not isinstance(scope, str):
        raise _untrusted("roles")
    known = frozenset(Role(role) for role in roles if role in Role.__members__.values())
    return Principal(subject, person, known, frozenset(scope.split()))


def _seconds(claims: Mapping[str, object], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e11:  # noqa: PLR2004
        raise _untrusted(name)
    return float(value)


def _public_keys(content: bytes) -> Mapping[str, Key]:
    """Usable keys of a key set. Symmetric ones are left out, whatever their id claims."""
    if len(content) > MAX_JWKS_BYTES:
        msg = "the key set is too large"
        raise Misconfigured(msg)
    try:
        listed = json.loads(content)["keys"]
        keys: dict[str, Key] = {}
        for entry in listed:
            if entry.get("kty") not in KEY_TYPE_OF.values() or not isinstance(
                entry.get("kid"), str
            ):
                continue
            if entry.get("use", "sig") == "sig":
                keys[entry["kid"]] = JWKRegistry.import_key(entry)
    except (ValueError, KeyError, TypeError, AttributeError, JoseError, RecursionError):
        msg = "the key set cannot be read"
        raise Misconfigured(msg) from None
    return keys


def _untrusted(reason: str) -> Unauthenticated:
    return Unauthenticated("The access token is not valid here, or no longer.", reason=reason)
