"""Signing keys and tokens of a local stack. With an identity provider neither is needed."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from shared.errors import Misconfigured
from shared.http.auth import Role

LOCAL_ISSUER = "urn:attain:local"
LOCAL_AUDIENCE = "attain"
DEFAULT_LIFETIME_S = 600
"""Rights change; a token outlives such a change by no more than this."""


def generate_key_pair(private_path: Path, jwks_path: Path) -> None:
    """An EC P-256 key: the private half in `private_path` (mode 0600), the public in `jwks_path`.

    A private key that is already there stays, and the public file is written from it, so that
    tokens survive a restart.
    """
    if private_path.exists():
        key = read_private_key(private_path)
    else:
        key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True)
        _write(private_path, json.dumps(key.as_dict(private=True)), mode=0o600)
    public = {**key.as_dict(private=False), "use": "sig", "alg": "ES256"}
    _write(jwks_path, json.dumps({"keys": [public]}), mode=0o644)


def read_private_key(path: Path) -> ECKey:
    """The key in `path`; raises Misconfigured saying what to do."""
    try:
        return ECKey.import_key(json.loads(path.read_bytes()))
    except FileNotFoundError:
        msg = f"no signing key at {path}: start the local stack once, it makes one"
        raise Misconfigured(msg) from None
    except PermissionError:
        msg = f"the signing key at {path} belongs to another user"
        raise Misconfigured(msg) from None
    except (ValueError, TypeError, JoseError):
        msg = f"the file at {path} is not a signing key"
        raise Misconfigured(msg) from None


def sign_token(  # noqa: PLR0913 - one argument a claim
    key: ECKey,
    *,
    subject: str,
    now: datetime,
    person_id: str | None = None,
    roles: Iterable[Role] = (),
    scopes: Iterable[str] = (),
    issuer: str = LOCAL_ISSUER,
    audience: str = LOCAL_AUDIENCE,
    lifetime_s: int = DEFAULT_LIFETIME_S,
) -> str:
    """A compact access token (RFC 9068) that every service of the stack accepts."""
    issued = int(now.timestamp())
    claims: dict[str, object] = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "iat": issued,
        "nbf": issued,
        "exp": issued + lifetime_s,
        "jti": secrets.token_hex(16),
        "roles": sorted(str(role) for role in roles),
        "scope": " ".join(sorted(scopes)),
    }
    if person_id is not None:
        claims["person"] = person_id
    key.ensure_kid()
    header = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    return jwt.encode(header, claims, key, algorithms=["ES256"])


def _write(path: Path, content: str, *, mode: int) -> None:
    """Whole or not at all, and never readable by others for a moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)
        file.write(content)
    draft.replace(path)
