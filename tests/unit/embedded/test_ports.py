import socket

import pytest

from deploy.embedded.errors import PortBusy, StackError
from deploy.embedded.ports import LOOPBACK, LOWEST, Ports, ephemeral_start, free_port, is_free


def listening(port: int) -> socket.socket:
    server = socket.create_server((LOOPBACK, port))
    server.listen(1)
    return server


def test_a_chosen_port_is_free_and_below_the_ephemeral_range() -> None:
    for _ in range(50):
        port = free_port()
        assert LOWEST <= port < min(ephemeral_start(), 32_768)
        assert is_free(port)


def test_a_port_somebody_listens_on_is_not_free() -> None:
    port = free_port()
    with listening(port):
        assert not is_free(port)
    assert is_free(port)


def test_a_configured_port_is_taken_as_it_is() -> None:
    port = free_port()
    assert Ports({"ATTAIN_PORT_METRICS_API": str(port)}, {}).take("metrics-api") == port


def test_a_configured_port_that_is_busy_is_an_error_naming_it() -> None:
    port = free_port()
    with (
        listening(port),
        pytest.raises(PortBusy, match=rf"Port {port} \(ATTAIN_PORT_KAFKA\) is already in use"),
    ):
        Ports({"ATTAIN_PORT_KAFKA": str(port)}, {}).take("kafka")


@pytest.mark.parametrize("text", ["kafka", "0", "65536", "-1", "9092.0"])
def test_a_configured_port_that_is_no_port_is_an_error_naming_it(text: str) -> None:
    with pytest.raises(StackError, match="ATTAIN_PORT_KAFKA"):
        Ports({"ATTAIN_PORT_KAFKA": text}, {}).take("kafka")


def test_the_port_of_the_run_before_is_used_again_while_it_is_free() -> None:
    last = free_port()
    assert Ports({}, {"kafka": last}).take("kafka") == last
    with listening(last):
        assert Ports({}, {"kafka": last}).take("kafka") != last


def test_a_port_found_busy_is_not_chosen_again() -> None:
    last = free_port()
    assert Ports({}, {"kafka": last}).take("kafka", avoid=last) != last


def test_two_names_never_get_one_port() -> None:
    ports = Ports({}, {})
    assert len({ports.take(f"part-{number}") for number in range(100)}) == 100
