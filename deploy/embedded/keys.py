"""The local stack's signing key: private in the state folder, public as a JWKS for the services."""

import json
from pathlib import Path

from joserfc.jwk import ECKey

from deploy.embedded.services import AUDIENCE, ISSUER
from deploy.embedded.state import State, write_private

PRIVATE_FILE = "signing-key.json"
PUBLIC_FILE = "jwks.json"


def ensure_keys(state: State) -> Path:
    """Make the key pair at the first start; path of the public key set."""
    private, public = state.root / PRIVATE_FILE, state.root / PUBLIC_FILE
    if not private.exists():
        made = ECKey.generate_key("P-256", {"alg": "ES256", "use": "sig"}, auto_kid=True)
        write_private(private, json.dumps(made.as_dict(private=True)) + "\n")
    key = ECKey.import_key(json.loads(private.read_text()))
    write_private(public, json.dumps({"keys": [key.as_dict(private=False)]}) + "\n")
    return public


def signing_environment(state: State) -> dict[str, str]:
    """Return what `attain token` needs to sign for this stack."""
    return {
        "ATTAIN_SIGNING_KEY_PATH": str(state.root / PRIVATE_FILE),
        "ATTAIN_ISSUER": ISSUER,
        "ATTAIN_AUDIENCE": AUDIENCE,
    }
