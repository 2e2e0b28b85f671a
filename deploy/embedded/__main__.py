"""`python -m deploy.embedded up | down | status | env | migrate | wipe`."""

import argparse
import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from deploy.embedded import children
from deploy.embedded.errors import StackError
from deploy.embedded.keys import signing_environment
from deploy.embedded.services import role_passwords, schemas_spec
from deploy.embedded.stack import Endpoints, endpoints_of, running_stack
from deploy.embedded.stack import wipe as wipe_folder
from deploy.embedded.state import Lock, State, lock_holder, state_folder

DOWN_TIMEOUT_S = 120.0
UP_TIMEOUT_S = 300.0
SUPERVISOR_LOG = "supervisor"


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command line answers on standard output


def up(state: State, arguments: argparse.Namespace) -> None:
    """Start a stack and hold it until Ctrl-C, SIGTERM or `down`."""
    if arguments.stop_with_parent:
        children.die_with_parent()
    if arguments.detach:
        _detach(state, services=not arguments.no_services)
    else:
        asyncio.run(_hold(state, services=not arguments.no_services))


async def _hold(state: State, *, services: bool) -> None:
    loop = asyncio.get_running_loop()
    holding = asyncio.current_task()
    asked: list[signal.Signals] = []
    hurry: list[Callable[[], None]] = []

    def stop(received: signal.Signals) -> None:
        asked.append(received)
        if len(asked) == 1 and holding:
            holding.cancel()
        for each in hurry if len(asked) > 1 else ():
            each()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        async with running_stack(state, _say, services=services) as stack:
            hurry.append(stack.supervisor.hurry)
            _say(_summary(state, stack.endpoints))
            await stack.supervisor.until_failure()
    except asyncio.CancelledError:
        if not asked:
            raise
        _say("Stopped")


def _detach(state: State, *, services: bool) -> None:
    """Start the supervisor in the background and wait until the stack is up."""
    if holder := lock_holder(state):
        raise StackError(f"A stack is up already (process {holder}).")
    log = children.log_path(state, SUPERVISOR_LOG)
    command = [sys.executable, "-m", "deploy.embedded", "up"]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command if services else [*command, "--no-services"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        endpoints = _wait_until_up(state, child)
    except BaseException:
        if child.poll() is None:
            child.terminate()
            child.wait()
        raise
    _say(_summary(state, endpoints))


def _wait_until_up(state: State, supervisor: subprocess.Popen[bytes]) -> Endpoints:
    log = children.log_path(state, SUPERVISOR_LOG)
    deadline = time.monotonic() + UP_TIMEOUT_S
    while True:
        endpoints = endpoints_of(state)
        if endpoints and endpoints.supervisor_pid == supervisor.pid:
            return endpoints
        if supervisor.poll() is not None:
            raise StackError(log.read_text().strip())
        if time.monotonic() > deadline:
            raise StackError(f"The stack is not up after {UP_TIMEOUT_S:g} s; see {log}.")
        time.sleep(0.05)


def down(state: State, _: argparse.Namespace) -> None:
    """Stop the stack of this folder, and whatever one before it left behind."""
    holder = lock_holder(state)
    if holder is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(holder, signal.SIGTERM)
        deadline = time.monotonic() + DOWN_TIMEOUT_S
        while lock_holder(state) is not None:
            if time.monotonic() > deadline:
                raise StackError(f"Process {holder} is still stopping the stack.")
            time.sleep(0.05)
    with Lock(state):
        left = children.end_leftovers(state)
    _say("Stopped" if holder or left else "Nothing was running")


def status(state: State, _: argparse.Namespace) -> None:
    """Show what runs; exit code 3 if no stack is up."""
    endpoints = endpoints_of(state) if lock_holder(state) else None
    for name, pid in children.running(state).items():
        _say(f"{name:24} process {pid}")
    if endpoints is None:
        _say("No stack is up")
        raise SystemExit(3)
    _say(_summary(state, endpoints))


def env(state: State, _: argparse.Namespace) -> None:
    """Print the shell commands that lead clients to the stack: `eval "$(… env)"`."""
    endpoints = endpoints_of(state) if lock_holder(state) else None
    if endpoints is None:
        raise StackError("No stack is up. Start one with `make up`.")
    for name, value in {**endpoints.environment(), **signing_environment(state)}.items():
        _say(f"export {name}={shlex.quote(value)}")


def migrate(state: State, _: argparse.Namespace) -> None:
    """Bring the schemas of all services up to date, on the stack that is up."""
    endpoints = endpoints_of(state) if lock_holder(state) else None
    if endpoints is None:
        raise StackError("No stack is up. Start one with `make up`.")
    spec = schemas_spec(endpoints.database_url, role_passwords(state))
    code = subprocess.call(spec.argv, cwd=spec.cwd, env=dict(spec.env))
    if code != 0:
        raise StackError(f"Migrating ended with exit code {code}.")
    _say("Schemas are up to date")


def wipe(state: State, _: argparse.Namespace) -> None:
    """Remove everything the stack keeps. Fetched jars stay."""
    wipe_folder(state)
    _say(f"Removed the state in {state.root}")


def _summary(state: State, endpoints: Endpoints) -> str:
    kafka = endpoints.kafka_bootstrap
    database = endpoints.database_url.rpartition("@")[2] or endpoints.database_url
    lines = [f"PostgreSQL  {database}", f"Kafka       {kafka}"]
    lines += [f"{name:24} {url}" for name, url in sorted(endpoints.services.items())]
    return "\n".join([*lines, f"Logs        {state.logs}"])


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 if it went well."""
    parser = argparse.ArgumentParser(prog="python -m deploy.embedded", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    for act in (up, down, status, env, migrate, wipe):
        command = commands.add_parser(act.__name__, help=act.__doc__, description=act.__doc__)
        command.set_defaults(act=act)
        if act is up:
            command.add_argument("--detach", action="store_true", help="return once it is up")
            command.add_argument(
                "--no-services", action="store_true", help="PostgreSQL and Kafka only"
            )
            command.add_argument(
                "--stop-with-parent", action="store_true", help="stop when the starter ends"
            )
    chosen = parser.parse_args(arguments)
    try:
        chosen.act(State(state_folder()), chosen)
    except StackError as error:
        print(error, file=sys.stderr)  # noqa: T201 - a command line complains there
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
