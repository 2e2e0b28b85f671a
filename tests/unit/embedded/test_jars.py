import hashlib
import threading
from pathlib import Path

import pytest

from deploy.embedded.errors import StackError
from deploy.embedded.jars import Jar, fetch, jar_list, verified

CONTENT = b"what a jar holds"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())


class Repository:
    """Gives each jar the content it is told to; counts."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.asked = 0

    def __call__(self, jar: Jar, scratch: Path) -> Path:
        self.asked += 1
        path = scratch / f"{jar.artifact}.download"
        path.write_bytes(self.content)
        return path


def test_the_committed_list_names_kafka_and_each_jar_once() -> None:
    jars = jar_list()
    assert len({(jar.group, jar.artifact) for jar in jars}) == len(jars) == 45
    assert "org.apache.kafka:kafka_2.13:4.4.0" in map(str, jars)
    assert all(len(bytes.fromhex(jar.sha256)) == 32 for jar in jars)


@pytest.mark.parametrize("line", ["a:b abc", "a:b:1 abc", "a:b:1", f"a:b:1:2 {'0' * 64}"])
def test_a_line_that_is_not_coordinates_and_hash_is_refused_by_number(
    tmp_path: Path, line: str
) -> None:
    path = tmp_path / "jars.txt"
    path.write_text(f"# a comment\n{line}\n")
    with pytest.raises(StackError, match="line 2"):
        jar_list(path)


def test_a_jar_is_downloaded_once(tmp_path: Path) -> None:
    repository = Repository()
    assert fetch(tmp_path, [JAR], repository) == 1
    assert fetch(tmp_path, [JAR], repository) == 0
    assert repository.asked == 1
    assert [path.read_bytes() for path in verified(tmp_path, [JAR])] == [CONTENT]


def test_a_download_with_another_hash_is_thrown_away(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"org\.example:thing:1\.0 has SHA-256"):
        fetch(tmp_path, [JAR], Repository(b"something else"))
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_a_download_that_fails_names_the_jar(tmp_path: Path) -> None:
    def unreachable(_jar: Jar, _scratch: Path) -> Path:
        raise OSError("no route to host")

    with pytest.raises(StackError, match=r"org\.example:thing:1\.0 .*no route to host"):
        fetch(tmp_path, [JAR], unreachable)


def test_a_jar_gone_bad_is_refused_at_start_and_fetched_again_by_setup(tmp_path: Path) -> None:
    fetch(tmp_path, [JAR], Repository())
    (tmp_path / JAR.file_name).write_bytes(CONTENT + b"!")
    with pytest.raises(StackError, match="make setup"):
        verified(tmp_path, [JAR])
    assert fetch(tmp_path, [JAR], Repository()) == 1
    verified(tmp_path, [JAR])


def test_a_missing_jar_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"thing-1\.0\.jar is missing. Run `make setup`"):
        verified(tmp_path, [JAR])


def test_two_who_fetch_at_once_download_once(tmp_path: Path) -> None:
    repository = Repository()
    threads = [threading.Thread(target=fetch, args=(tmp_path, [JAR], repository)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert repository.asked == 1
