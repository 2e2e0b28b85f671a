"""Connections' secrets at rest: encrypted with a key that is not in the database."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from shared.errors import Misconfigured

FINGERPRINT_DIGITS = 12


class SecretCipher:
    """Seals and opens. keys: Fernet keys separated by commas; the first one seals."""

    def __init__(self, keys: str) -> None:
        given = [key.strip().encode() for key in keys.split(",")]
        self._fernet = MultiFernet([Fernet(key) for key in given])
        self._fingerprint_key = hashlib.sha256(b"fingerprint" + given[0]).digest()

    def seal(self, secrets: Sequence[str]) -> bytes:
        """The secrets, encrypted and authenticated."""
        return self._fernet.encrypt(json.dumps(list(secrets)).encode())

    def open(self, sealed: bytes) -> tuple[str, ...]:
        """The secrets. Raises Misconfigured when none of the keys fits."""
        try:
            return tuple(json.loads(self._fernet.decrypt(sealed)))
        except InvalidToken:
            msg = "ATTAIN_INGEST_SECRETS_KEY does not open a connection's secrets"
            raise Misconfigured(msg) from None

    def fingerprint(self, secret: str) -> str:
        """Tells one secret from another; keyed, so that guesses cannot be tried without the key."""
        digest = hmac.digest(self._fingerprint_key, secret.encode(), "sha256")
        return digest.hex()[:FINGERPRINT_DIGITS]
