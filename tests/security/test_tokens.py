"""The corpus of tokens against every service, over real connections."""

from __future__ import annotations

import httpx
import pytest

from shared.http.problems import MEDIA_TYPE
from tests.security.company import Company
from tests.security.forgery import Forger, HeaderLines, believed, forged, powerless
from tests.security.sockets import exchange

ASKED = {
    "ingest": "/v1/sources",
    "metrics": "/v1/deals",
    "commissions": "/v1/statements",
    "notifications": "/v1/alerts",
}
"""A route of each service that an administrator may read."""
SERVICES = tuple(ASKED)


@pytest.fixture
def forger(company: Company) -> Forger:
    """Somebody who tries."""
    return Forger.of(company.folder)


async def ask(company: Company, service: str, headers: HeaderLines) -> httpx.Response:
    """The service's answer."""
    return await company.clients[service].get(ASKED[service], headers=headers)


@pytest.mark.parametrize("service", SERVICES)
async def test_what_is_near_the_corpus_is_believed(
    company: Company, forger: Forger, service: str
) -> None:
    for name, headers in believed(forger):
        assert (await ask(company, service, headers)).status_code == 200, name


@pytest.mark.parametrize("service", SERVICES)
async def test_nothing_of_the_corpus_is_believed(
    company: Company, forger: Forger, service: str
) -> None:
    cases = list(forged(forger))
    wrong = []
    for name, headers in cases:
        answer = await ask(company, service, headers)
        if answer.status_code != 401:
            wrong.append(f"{name}: {answer.status_code}")
            continue
        assert answer.headers["content-type"] == MEDIA_TYPE, name
        assert answer.headers["www-authenticate"].startswith("Bearer"), name
        for _, value in headers:
            token = value.rpartition(" ")[2]
            assert len(token) < 20 or token not in answer.text, name
    assert "; ".join(wrong) == ""
    assert len(cases) > 90


@pytest.mark.parametrize("service", SERVICES)
async def test_a_good_token_without_a_role_of_ours_may_nothing(
    company: Company, forger: Forger, service: str
) -> None:
    for name, headers in powerless(forger):
        answer = await ask(company, service, headers)
        assert answer.status_code == 403, f"{name}: {answer.status_code}"


@pytest.mark.parametrize("service", SERVICES)
async def test_a_token_in_the_query_is_none(company: Company, forger: Forger, service: str) -> None:
    for name in ("access_token", "token", "Authorization", "bearer"):
        answer = await company.clients[service].get(ASKED[service], params={name: forger.token()})
        assert answer.status_code == 401, name


@pytest.mark.parametrize("service", SERVICES)
async def test_a_huge_header_is_refused_and_others_are_answered(
    company: Company, forger: Forger, service: str
) -> None:
    port = int(str(company.clients[service].base_url.port))
    for size in (20_000, 70_000, 1_000_000):
        head = f"GET {ASKED[service]} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "
        said = await exchange(port, head.encode() + b"A" * size + b"\r\n\r\n")
        # Cut off while it was still sending is refused as well.
        assert said.split(b" ")[1:2] in ([], [b"400"], [b"401"], [b"431"]), (size, said[:200])
        good = await ask(company, service, [("Authorization", f"Bearer {forger.token()}")])
        assert good.status_code == 200
