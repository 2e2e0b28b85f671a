"""`attain plan` against a running service: lint, diff, apply, and who may change a plan where."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio
import uvicorn
from typer.testing import CliRunner, Result

from deploy.cli import app
from services.commissions.plans.files import read_documents
from shared.http.auth import Role
from shared.http.keys import read_private_key, sign_token
from tests.integration.commissions.system import System, flat_plan, running, won

MakeDatabase = Callable[[], Awaitable[str]]
Cli = Callable[..., Awaitable[Result]]

PLAN = """\
id: ae
name: Account executives
currency: USD
time_zone: UTC
effective: {from: 2025-01-01}
period: month
components:
  - id: new
    kind: commission
    credit: {on: deal.won, to: owner}
    rates: {method: flat, rate: 10%}
"""
LATER = PLAN.replace("2025-01-01", "2025-02-01").replace("rate: 10%", "rate: 12.50%")


@pytest_asyncio.fixture(loop_scope="session")
async def system(
    database_factory: MakeDatabase, kafka_bootstrap: str, topic_prefix: str
) -> AsyncIterator[System]:
    async with running(await database_factory(), kafka_bootstrap, topic_prefix) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="session")
async def cli(system: System, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cli]:
    """The command, with a token of a machine that may write plans."""
    token = sign_token(
        read_private_key(system.key_path),
        subject="pipeline",
        person_id=None,
        roles=[Role.SERVICE],
        scopes=["commissions:read", "commissions:write", "people:all"],
        now=datetime.now(UTC),
        lifetime_s=3_000,
    )
    monkeypatch.setenv("ATTAIN_TOKEN", token)
    monkeypatch.setenv("NO_COLOR", "1")
    async with served(system) as url:
        monkeypatch.setenv("ATTAIN_URL_COMMISSIONS", url)

        async def run(*arguments: str | Path) -> Result:
            said = ["plan", *map(str, arguments)]
            return await asyncio.to_thread(lambda: CliRunner().invoke(app, said))

        yield run


@asynccontextmanager
async def served(system: System) -> AsyncIterator[str]:
    """The service's API on a port."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(system.app, log_level="warning", lifespan="off"))
        task = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started:
            await asyncio.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await task


async def test_files_are_applied_once_and_kept(system: System, cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "ae.yaml"
    file.write_text(PLAN)
    compared = await cli("diff", "--exit-code", tmp_path)
    assert compared.exit_code == 2, compared.output
    assert "version 1 from 2025-01-01: new" in compared.output
    first = await cli("apply", tmp_path)
    assert first.exit_code == 0, first.output
    assert "ae version 1: saved, from 2025-01-01" in first.output
    assert (await system.assign("ana", payee="ana", plan="ae", from_="2025-01-01")).is_success
    again = await cli("apply", tmp_path)
    assert (again.exit_code, again.output.strip()) == (0, "ae version 1: unchanged")
    assert (await cli("diff", "--exit-code", tmp_path)).exit_code == 0

    await system.send([won("crm:main:a", "2025-02-10T10:00:00Z", "1000", "ana")])
    await system.drain()
    file.write_text(f"{PLAN}---\n{LATER}")
    compared = await cli("diff", file)
    assert compared.exit_code == 0, compared.output
    assert "~ /components/new/rates/rate: 10% → 12.50%" in compared.output
    assert "2025-02 USD" in compared.output
    assert "125" in compared.output
    second = await cli("apply", file)
    assert "ae version 2: saved, from 2025-02-01" in second.output
    await system.drain()
    assert (await system.statement("ana", "ae", "2025-02"))["own"] == "125"
    async with system.client(Role.COMP_ADMIN) as admin:
        document = (await admin.get("/v1/plans/ae/versions/2")).json()["document"]
    assert document["components"][0]["rates"]["rate"] == "12.50%"


async def test_a_plan_in_files_is_changed_there_only(
    system: System, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "ae.yaml").write_text(PLAN)
    assert (await cli("apply", tmp_path)).exit_code == 0
    later = {**flat_plan(id="ae"), "effective": {"from": "2025-06-01"}}
    refused = await system.put_plan(later, 2)
    assert refused.status_code == 409
    assert refused.json()["type"].endswith("plan-kept-in-files")
    assert "change the file" in refused.json()["detail"]
    released = await cli("apply", "--release", tmp_path)
    assert (released.exit_code, "kept over the API" in released.output) == (0, True)
    saved = await system.put_plan({**later, "components": _components(PLAN)}, 2)
    assert saved.status_code == 201, saved.text
    foreign = await cli("apply", tmp_path)
    assert (foreign.exit_code, "--adopt" in foreign.output) == (1, True)
    adopted = await cli("apply", "--adopt", tmp_path)
    assert adopted.exit_code == 0, adopted.output
    assert "kept in files from now on" in adopted.output
    compared = await cli("diff", tmp_path)
    assert "version 2 from 2025-06-01: saved, and in no file" in compared.output
    third = {**flat_plan(id="ae"), "effective": {"from": "2025-09-01"}}
    assert (await system.put_plan(third, 3)).status_code == 409


def _components(text: str) -> object:
    return read_documents("ae.yaml", text.encode())[0].document["components"]


async def test_what_is_wrong_is_told_with_its_place_and_nothing_is_saved(
    system: System, cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "ae.yaml"
    file.write_text(PLAN.replace("flat, rate: 10%", "flat, rat: 10%"))
    for command in ("lint", "diff", "apply"):
        told = await cli(command, file)
        assert told.exit_code == 1
        assert f"{file}:11:32: refused plan_invalid: unknown key rat; did you mean rate?" in (
            told.output
        )
    file.write_text(PLAN)
    assert (await cli("apply", file)).exit_code == 0
    file.write_text(PLAN.replace("10%", "11%"))
    changed = await cli("apply", file)
    assert changed.exit_code == 1
    assert f"{file}:5:19: refused version 1 is saved with this first day" in changed.output
    async with system.client(Role.COMP_ADMIN) as admin:
        assert len((await admin.get("/v1/plans/ae/versions")).json()) == 1
    warned = PLAN.replace("flat, rate: 10%", "flat, rate: -1%")
    file.write_text(warned)
    assert (await cli("lint", file)).exit_code == 0
    strict = await cli("lint", "--strict", file)
    assert (strict.exit_code, "negative_rate" in strict.output) == (1, True)


async def test_a_file_that_reaches_into_closed_days_is_proposed_once(
    system: System, cli: Cli, tmp_path: Path
) -> None:
    file = tmp_path / "ae.yaml"
    file.write_text(PLAN)
    assert (await cli("apply", file)).exit_code == 0
    await system.assign("ana", payee="ana", plan="ae", from_="2025-01-01")
    await system.send([won("crm:main:a", "2025-01-20T10:00:00Z", "1000", "ana")])
    await system.drain()
    assert (await system.close("2025-01")).status_code == 200
    file.write_text(f"{PLAN}---\n{LATER.replace('2025-02-01', '2025-01-15')}")
    proposed = await cli("apply", file)
    assert proposed.exit_code == 0, proposed.output
    assert "ae version 2: proposed, it moves 25 USD of closed periods" in proposed.output
    assert "closed_border" in proposed.output
    again = await cli("apply", file)
    assert "ae version 2: unchanged; it waits for a second person" in again.output
    async with system.client(Role.FINANCE, person="fin") as finance:
        known = (await finance.get("/v1/proposals/plan/ae/2")).json()
        assert (known["asked_by"], known["revision"]) == ("pipeline", 2)
        signed = await finance.post("/v1/plans/ae/versions/2/confirm", headers={"If-Match": '"2"'})
        assert signed.status_code == 200, signed.text
    assert "ae version 2: unchanged\n" in (await cli("apply", file)).output


async def test_without_a_token_or_a_service_it_says_so(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ae.yaml").write_text(PLAN)
    absent = await cli("diff", "--url", "http://127.0.0.1:9", tmp_path)
    assert (absent.exit_code, "does not answer" in absent.output) == (1, True)
    monkeypatch.setenv("ATTAIN_TOKEN", "no token")
    wrong = await cli("diff", tmp_path)
    assert wrong.exit_code == 1
    monkeypatch.delenv("ATTAIN_TOKEN")
    none = await cli("diff", tmp_path)
    assert (none.exit_code, "ATTAIN_TOKEN" in none.output) == (2, True)
