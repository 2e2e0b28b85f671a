"""`make setup`: from a clean checkout to everything installed, with the standard library only.

Quick when nothing has changed: what was installed last is kept as a hash of the locks. An old
Python can read this file far enough to say that it is too old.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

OLDEST = (3, 11)
ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / ".installed"
LOCKS = ("requirements/runtime.txt", "requirements/stack.txt", "requirements/dev.txt")


def main() -> None:
    """Make the virtual environment what the locks say, then fetch Kafka's jars."""
    _check_python()
    # Beside the environment, which may have to be removed.
    with (ROOT / ".venv.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = _fingerprint()
        if _installed() != wanted:
            _install(wanted)
    _run(PYTHON, "-m", "deploy.embedded.jars")


def _check_python() -> None:
    if not sys.platform.startswith("linux"):
        sys.exit("The embedded stack runs on Linux. Elsewhere use `docker compose up`.")
    if sys.version_info < OLDEST:
        sys.exit(
            f"Python {OLDEST[0]}.{OLDEST[1]} or newer is needed, and {sys.executable} is "
            f"{sys.version_info[0]}.{sys.version_info[1]}. Install a newer one and name it: "
            "make setup PYTHON=python3.12"
        )
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian ships it apart from Python
        import venv  # noqa: F401, PLC0415 - as above
    except ImportError:
        sys.exit(
            "Python's venv module is missing: install it with your package manager "
            "(Debian, Ubuntu: `apt-get install python3-venv`), then run make again."
        )


def _fingerprint() -> str:
    """Hash of what the environment is made from; another Python makes another environment."""
    digest = hashlib.sha256(sys.version.encode())
    for name in (*LOCKS, "pyproject.toml"):
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest()


def _installed() -> Optional[str]:  # noqa: UP045 - must be read by an old Python
    """Fingerprint of a whole environment that runs; None for none, or a half-made one."""
    try:
        stamp = STAMP.read_text().strip()
    except OSError:
        return None
    return stamp if _works() else None


def _install(wanted: str) -> None:
    if not _works():
        shutil.rmtree(VENV, ignore_errors=True)
        _run(sys.executable, "-m", "venv", VENV)
    if STAMP.exists():
        STAMP.unlink()
    _say("Installing what the locks name into .venv")
    pip = (PYTHON, "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", "install")
    locks = [part for name in LOCKS for part in ("-r", name)]
    # Compiling what is never imported would double the time.
    _run(*pip, "--no-compile", "--require-hashes", *locks)
    _run(*pip, "--no-deps", "--no-build-isolation", "--no-index", "--editable", ".")
    STAMP.write_text(wanted + "\n")


def _works() -> bool:
    """Whether the environment runs, and runs this very Python version, pip included."""
    ask = "import sys, importlib.util as u; print(sys.version if u.find_spec('pip') else '')"
    try:
        found = subprocess.run([PYTHON, "-c", ask], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return found.stdout.strip() == sys.version


def _run(*command: object) -> None:
    words = [str(word) for word in command]
    code = subprocess.call(words, cwd=ROOT)
    if code != 0:
        sys.exit(f"make setup stopped: `{' '.join(words)}` ended with exit code {code}.")


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command line answers on standard output


if __name__ == "__main__":
    main()
