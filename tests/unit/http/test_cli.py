"""`attain token` prints a token that the stack believes, and nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from shared.http.auth import Role
from shared.http.tokens import TokenVerifier
from tests.unit.http.conftest import Keys


def attain(*arguments: str, key: Path) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "shared.cli", *arguments],
        env={**os.environ, "ATTAIN_SIGNING_KEY_PATH": str(key)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_token_for_a_person(keys: Keys, verifier: TokenVerifier) -> None:
    made = attain(
        "token", "--role", "manager", "--role", "rep", "--person", "acme:42", "--minutes", "5",
        key=keys.private_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("\n") == 1
    principal = asyncio.run(verifier.verify(made.stdout.strip()))
    assert principal.person_id == principal.subject == "acme:42"
    assert principal.roles == {Role.MANAGER, Role.REP}


def test_a_token_for_a_machine(keys: Keys, verifier: TokenVerifier) -> None:
    made = attain("token", "--scope", "ingest:write", "--subject", "hubspot", key=keys.private_path)
    principal = asyncio.run(verifier.verify(made.stdout.strip()))
    assert principal.roles == {Role.SERVICE}
    assert principal.scopes == {"ingest:write"}


def test_faults_are_one_line(tmp_path: Path, keys: Keys) -> None:
    missing = attain("token", "--role", "rep", key=tmp_path / "none.json")
    assert missing.returncode == 1
    assert "start the local stack once" in missing.stderr
    assert missing.stdout == ""
    nobody = attain("token", key=keys.private_path)
    assert nobody.returncode == 2
    unknown = attain("token", "--role", "king", key=keys.private_path)
    assert unknown.returncode == 2
    assert "Traceback" not in missing.stderr + nobody.stderr + unknown.stderr
