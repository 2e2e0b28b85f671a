from collections.abc import Iterator
from itertools import permutations

from tests.bench.same_work import Addends, addends, difference

AT_NOON = f"{1_735_732_800_000:015d}{0:020d}"  # 2025-01-01T12:00Z

Said = dict[str, tuple[str, object]]


def deal(**stated: object) -> Said:
    return {name: (AT_NOON, value) for name, value in stated.items()}


OPEN = deal(
    owner="ana",
    amount="100.5",
    stage="contractsent",
    close_date="2025-03-31",
    created_at="2024-12-01T09:00:00.000Z",
)


def test_an_open_deal_adds_to_its_close_date() -> None:
    assert addends(OPEN) == {
        ("ana", "created", "2024-12-01"): (10_050, 1),
        ("ana", "owned", "2025-03-31"): (10_050, 1),
        ("ana", "pipeline", "2025-03-31"): (10_050, 1),
        ("ana", "weighted", "2025-03-31"): (8_040, 1),
        ("ana", "committed", "2025-03-31"): (10_050, 1),
    }


def test_a_won_deal_adds_to_the_day_it_was_won() -> None:
    made = addends({**OPEN, "stage": (AT_NOON, "closedwon")})

    assert made["ana", "gained", "2025-01-01"] == made["ana", "decided", "2025-01-01"]
    assert not {"pipeline", "weighted", "committed", "missed"} & {name[1] for name in made}


def test_all_eight_measures_occur() -> None:
    stages = ("contractsent", "closedwon", "closedlost")
    made = [addends({**OPEN, "stage": (AT_NOON, stage)}) for stage in stages]

    assert len({measure for one in made for _, measure, _ in one}) == 8


def test_a_deal_without_an_owner_adds_nothing() -> None:
    assert addends(deal(amount="5")) == {}
    assert addends(deal(owner=None, amount="5")) == {}


def test_differences_add_up_to_the_last_state_in_any_order() -> None:
    states = [{}, addends(OPEN), addends({**OPEN, "owner": (AT_NOON, "ben")})]
    for order in permutations(states):
        total: Addends = {}
        for before, after in _steps([*order, states[1]]):
            for name, (cents, number) in difference(before, after).items():
                old = total.get(name, (0, 0))
                total[name] = (old[0] + cents, old[1] + number)
        assert {name: value for name, value in total.items() if value != (0, 0)} == states[1]


def _steps(states: list[Addends]) -> Iterator[tuple[Addends, Addends]]:
    yield from zip([{}, *states], states, strict=False)
