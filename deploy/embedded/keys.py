"""The local stack's signing key: private in the state folder, public as a JWKS for the services."""

from pathlib import Path

from deploy.embedded.state import State
from shared.http.keys import LOCAL_AUDIENCE, LOCAL_ISSUER, generate_key_pair


def ensure_keys(state: State) -> Path:
    """Make the key pair at the first start; path of the public key set."""
    public = _folder(state) / "jwks.json"
    generate_key_pair(_private(state), public)
    return public


def signing_environment(state: State) -> dict[str, str]:
    """Return what `attain token` needs to sign for this stack."""
    return {
        "ATTAIN_SIGNING_KEY_PATH": str(_private(state)),
        "ATTAIN_ISSUER": LOCAL_ISSUER,
        "ATTAIN_AUDIENCE": LOCAL_AUDIENCE,
    }


def _folder(state: State) -> Path:
    return state.root / "keys"


def _private(state: State) -> Path:
    return _folder(state) / "signing.json"
