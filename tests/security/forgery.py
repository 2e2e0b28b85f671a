"""Access tokens that must not be believed, as data: a name, and what is sent."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey, RSAKey

from shared.http.keys import LOCAL_AUDIENCE, LOCAL_ISSUER

Claims = dict[str, Any]
HeaderLines = list[tuple[str, str]]


def b64(content: bytes) -> str:
    """Base64 as tokens have it."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def es256(key: ec.EllipticCurvePrivateKey, signed: bytes) -> bytes:
    """Both numbers of the signature, 32 bytes each."""
    r, s = decode_dss_signature(key.sign(signed, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@dataclass(slots=True)
class Forger:
    """Somebody who knows the public keys, and (to make near misses) the private ones too."""

    own: ECKey
    sealing: ECKey
    rsa: RSAKey
    stranger: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256", auto_kid=True))

    @classmethod
    def of(cls, folder: Path) -> Forger:
        """With the keys of the company."""

        def read(name: str) -> dict[str, Any]:
            found: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
            return found

        return cls(
            ECKey.import_key(read("own")),
            ECKey.import_key(read("sealing")),
            RSAKey.import_key(read("rsa")),
        )

    def header(self, **changed: Any) -> Claims:  # noqa: ANN401 - JSON
        """A good header, changed; None takes an entry out."""
        good = {"alg": "ES256", "typ": "at+jwt", "kid": self.own.kid}
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def claims(self, **changed: Any) -> Claims:  # noqa: ANN401 - JSON
        """An administrator's good claims, changed; None takes one out."""
        now = int(time.time())
        good = {
            "iss": LOCAL_ISSUER,
            "aud": LOCAL_AUDIENCE,
            "sub": "forger",
            "iat": now,
            "nbf": now,
            "exp": now + 600,
            "roles": ["admin"],
            "scope": "",
        }
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def token(
        self,
        header: Mapping[str, Any] | bytes | None = None,
        claims: Mapping[str, Any] | bytes | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        """A compact token of these parts, signed with the right key unless told otherwise."""
        parts = [self.header() if header is None else header]
        parts.append(self.claims() if claims is None else claims)
        texts = [b64(p if isinstance(p, bytes) else json.dumps(p).encode()) for p in parts]
        signed = ".".join(texts).encode()
        return f"{signed.decode()}.{b64((sign or self.sign)(signed))}"

    def sign(self, signed: bytes) -> bytes:
        """With the issuer's key."""
        return es256(_ec(self.own), signed)

    def public_texts(self) -> dict[str, bytes]:
        """What a careless verifier might take for an HMAC secret."""
        public = _ec(self.own).public_key()
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        return {
            "its PEM": public.public_bytes(serialization.Encoding.PEM, spki),
            "its DER": public.public_bytes(serialization.Encoding.DER, spki),
            "its JWK": json.dumps(self.own.as_dict(private=False)).encode(),
            "nothing": b"",
        }


def _hmac(secret: bytes, signed: bytes) -> bytes:
    return hmac.digest(secret, signed, hashlib.sha256)


def _ec(key: ECKey) -> ec.EllipticCurvePrivateKey:
    found = key.get_op_key("sign") if key.get("use") != "enc" else key.private_key
    assert isinstance(found, ec.EllipticCurvePrivateKey)
    return found


def _rsa(key: RSAKey) -> rsa.RSAPrivateKey:
    found = key.private_key
    assert isinstance(found, rsa.RSAPrivateKey)
    return found


def bearer(token: str) -> HeaderLines:
    """One header with a token."""
    return [("Authorization", f"Bearer {token}")]


def believed(forger: Forger) -> Iterator[tuple[str, HeaderLines]]:
    """What must be let in, so that the rest of the corpus is known to be near it."""
    yield "untouched", bearer(forger.token())
    yield "scheme in lower case", [("Authorization", f"bearer {forger.token()}")]
    yield "scheme in capitals", [("authorization", f"BEARER {forger.token()}")]
    yield (
        "one of several audiences",
        bearer(forger.token(claims=forger.claims(aud=["other", LOCAL_AUDIENCE]))),
    )
    yield "typ JWT", bearer(forger.token(header=forger.header(typ="JWT")))
    yield "without nbf", bearer(forger.token(claims=forger.claims(nbf=None)))
    yield (
        "a role that exists beside one that does not",
        bearer(forger.token(claims=forger.claims(roles=["root", "admin"]))),
    )


def powerless(forger: Forger) -> Iterator[tuple[str, HeaderLines]]:
    """Good tokens of nobody in particular: 403, whatever they say beside a role."""
    wrong: dict[str, Claims] = {
        "a role that does not exist": {"roles": ["superuser"]},
        "a role in capitals": {"roles": ["ADMIN"]},
        "a role with a space": {"roles": ["admin "]},
        "roles of other types": {"roles": [1, None, ["admin"], {"admin": True}]},
        "no roles": {"roles": []},
        "no claim of roles": {"roles": None},
        "role as a claim of its own": {"roles": [], "role": "admin"},
        "scopes of a machine without being one": {
            "roles": [],
            "scope": "events:write reference:write metrics:read metrics:admin commissions:read "
            "commissions:admin notifications:read notifications:admin people:all admin",
        },
        "a machine without scopes": {"roles": ["service"]},
        "a machine with a scope's beginning": {
            "roles": ["service"],
            "scope": "metrics metrics: commissions:rea notifications:* * admin",
        },
        "a machine with scopes in one word": {
            "roles": ["service"],
            "scope": "metrics:read,commissions:read,notifications:read,metrics:admin",
        },
    }
    for name, changed in wrong.items():
        yield name, bearer(forger.token(claims=forger.claims(**changed)))


def forged(forger: Forger) -> Iterator[tuple[str, HeaderLines]]:
    """What must not be believed: 401."""
    yield from _headers(forger)
    yield from _signatures(forger)
    yield from _wrong_headers(forger)
    yield from _wrong_claims(forger)
    yield from _no_tokens(forger)


def _headers(forger: Forger) -> Iterator[tuple[str, HeaderLines]]:
    good = forger.token()
    yield "none", []
    yield "two headers, both good", bearer(good) + bearer(good)
    yield "two headers, the first good", bearer(good) + bearer("x.y.z")
    yield "two headers, the second good", [("Authorization", "Basic YTpi"), *bearer(good)]
    yield "two tokens in one header", bearer(f"{good}, Bearer {good}")
    yield "two tokens in one header, no scheme", bearer(f"{good} {good}")
    yield "another scheme", [("Authorization", f"Basic {good}")]
    yield "no scheme", [("Authorization", good)]
    yield "the scheme alone", [("Authorization", "Bearer")]
    yield "glued", [("Authorization", f"Bearer{good}")]
    yield "in a cookie", [("Cookie", f"access_token={good}; Authorization=Bearer {good}")]
    yield "in another header", [("X-Access-Token", good), ("Proxy-Authorization", f"Bearer {good}")]


def _signatures(forger: Forger) -> Iterator[tuple[str, HeaderLines]]:
    good = forger.token()
    head, payload, signature = good.split(".")
    admin = b64(json.dumps(forger.claims(sub="somebody-else")).encode())
    raw = base64.urlsafe_b64decode(signature + "==")
    yield "payload exchanged", bearer(f"{head}.{admin}.{signature}")
    yield (
        "header exchanged",
        bearer(f"{b64(json.dumps(forger.header(typ='JWT')).encode())}.{payload}.{signature}"),
    )
    yield "signature empty", bearer(f"{head}.{payload}.")
    yield "signature cut", bearer(f"{head}.{payload}.{b64(raw[:-1])}")
    yield "signature lengthened", bearer(f"{head}.{payload}.{b64(raw + bytes(1))}")
    yield "signature all zero", bearer(f"{head}.{payload}.{b64(bytes(64))}")
    yield "signature one bit off", bearer(f"{head}.{payload}.{b64(bytes([raw[0] ^ 1]) + raw[1:])}")
    yield (
        "signature in DER",
        bearer(
            forger.token(
                sign=lambda signed: _ec(forger.own).sign(signed, ec.ECDSA(hashes.SHA256()))
            )
        ),
    )
    yield (
        "a stranger's key under the right id",
        bearer(forger.token(sign=lambda signed: es256(_ec(forger.stranger), signed))),
    )
    yield (
        "a key for another use",
        bearer(
            forger.token(
                header=forger.header(kid="for-encryption"),
                sign=lambda signed: es256(_ec(forger.sealing), signed),
            )
        ),
    )
    yield (
        "RS256 under the id of an EC key",
        bearer(
            forger.token(
                header=forger.header(alg="RS256"),
                sign=lambda signed: _rsa(forger.rsa).sign(
                    signed, padding.PKCS1v15(), hashes.SHA256()
                ),
            )
        ),
    )
    yield "ES256 under the id of an RSA key", bearer(forger.token(header=forger.header(kid="rsa")))
    for name, secret in forger.public_texts().items():
        for algorithm in ("HS256", "hs256"):
            yield (
                f"{algorithm} with the public key: {name}",
                bearer(
                    forger.token(
                        header=forger.header(alg=algorithm),
                        sign=partial(_hmac, secret),
                    )
                ),
            )


def _wrong_headers(forger: Forger) -> Iterator[tuple[str, HeaderLines]]:
    public = forger.stranger.as_dict(private=False)
    wrong: dict[str, Claims] = {
        "alg none": {"alg": "none"},
        "alg None": {"alg": "None"},
        "alg missing": {"alg": None},
        "alg a list": {"alg": ["ES256"]},
        "alg of another curve": {"alg": "ES384"},
        "alg unknown": {"alg": "ES256K"},
        "crit unknown": {"crit": ["exp", "b64"], "b64": True},
        "crit of ours": {"crit": ["kid"]},
        "kid unknown": {"kid": "nobody"},
        "kid missing": {"kid": None},
        "kid a number": {"kid": 1},
        "kid a path": {"kid": "../../../etc/passwd"},
        "kid with SQL": {"kid": "' OR 1=1 --"},
        "typ missing": {"typ": None},
        "typ of an ID token": {"typ": "id_token+jwt"},
        "key brought along": {"jwk": public},
        "address of keys brought along": {"jku": "https://keys.example/jwks.json"},
        "certificate brought along": {"x5u": "https://keys.example/c", "x5c": ["AAAA"]},
        "nested": {"cty": "JWT"},
        "compressed": {"zip": "DEF"},
    }
    for name, changed in wrong.items():
        yield name, bearer(forger.token(header=forger.header(**changed)))
    unsigned = forger.token(header=forger.header(alg="none"), sign=lambda _: b"")
    yield "alg none, unsigned", bearer(unsigned)
    good = json.dumps(forger.header())
    twice = good.replace('"alg": "ES256"', '"alg": "ES256", "alg": "none"')
    yield "alg twice", bearer(forger.token(header=twice.encode()))
    yield "header no object", bearer(forger.token(header=b'["ES256"]'))
    yield "header no JSON", bearer(forger.token(header=b"ES256"))
    yield "header deeply nested", bearer(forger.token(header=b"[" * 3_000))
    yield "header in UTF-16", bearer(forger.token(header=good[:-1].encode("utf-16")))


def _wrong_claims(forger: Forger) -> Iterator[tuple[str, HeaderLines]]:
    now = int(time.time())
    wrong: dict[str, Claims] = {
        "wrong issuer": {"iss": "urn:attain:other"},
        "no issuer": {"iss": None},
        "issuer a list": {"iss": [LOCAL_ISSUER]},
        "wrong audience": {"aud": "other"},
        "no audience": {"aud": None},
        "wrong audiences": {"aud": ["other", "attain2"]},
        "audience an object": {"aud": {"attain": True}},
        "expired": {"exp": now - 60, "iat": now - 120, "nbf": now - 120},
        "no expiry": {"exp": None},
        "expiry a text": {"exp": str(now + 60)},
        "expiry true": {"exp": True},
        "expiry far away": {"exp": now + 86_400},
        "expiry before issue": {"exp": now + 5, "iat": now + 10},
        "expiry negative": {"exp": -1},
        "not yet valid": {"nbf": now + 300},
        "not-before a text": {"nbf": "now"},
        "issued in the future": {"iat": now + 300},
        "no time of issue": {"iat": None},
        "no subject": {"sub": None},
        "subject a number": {"sub": 1},
        "subject empty": {"sub": ""},
        "subject with a line break": {"sub": "a\nb"},
        "person a number": {"person": 1},
        "roles a text": {"roles": "admin"},
        "roles an object": {"roles": {"admin": True}},
        "scope a list": {"scope": ["metrics:read"]},
    }
    for name, changed in wrong.items():
        yield name, bearer(forger.token(claims=forger.claims(**changed)))
    endless = json.dumps(forger.claims()).replace(f'"exp": {now + 600}', '"exp": 1e400')
    yield "expiry endless", bearer(forger.token(claims=endless.encode()))
    unknown = json.dumps(forger.claims(exp=1)).replace('"exp": 1', '"exp": NaN')
    yield "expiry not a number", bearer(forger.token(claims=unknown.encode()))
    long_number = json.dumps(forger.claims(exp=1)).replace('"exp": 1', '"exp": ' + "9" * 5_000)
    yield "expiry of 5000 digits", bearer(forger.token(claims=long_number.encode()))
    yield "claims no object", bearer(forger.token(claims=b'"admin"'))
    yield "claims no JSON", bearer(forger.token(claims=b"\xff\xfe"))
    yield "claims deeply nested", bearer(forger.token(claims=b"[" * 3_000))
    yield "a token inside a token", bearer(forger.token(claims=forger.token().encode()))


def _no_tokens(forger: Forger) -> Iterator[tuple[str, HeaderLines]]:
    good = forger.token()
    for name, text in {
        "garbage": "x.y.z",
        "garbage of the alphabet": "A.B.C",
        "two parts": good.rpartition(".")[0],
        "four parts": f"{good}.{b64(b'more')}",
        "encrypted, five parts": ".".join(
            [b64(b'{"alg":"RSA-OAEP","enc":"A256GCM","kid":"rsa"}'), *[b64(b"x" * 16)] * 4]
        ),
        "padded": ".".join(part + "=" for part in good.split(".")),
        "standard alphabet": good.replace("-", "+").replace("_", "/") + "+/",
        "with a zero byte, escaped": good + "%00",
        "in quotes": f'"{good}"',
        "huge": forger.token(claims=forger.claims(more="x" * 7_000)),
        "huge garbage": "A" * 9_000 + ".B.C",
    }.items():
        yield name, bearer(text)
