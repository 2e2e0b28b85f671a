from tests.bench.lab import Produced

PRODUCED = Produced(10, {("crm.deals", 0): 106, ("crm.deals", 1): 4})


def test_what_is_left_is_what_lies_before_the_reader() -> None:
    assert PRODUCED.left({("crm.deals", 0): 100, ("crm.deals", 1): 1}) == 9
    assert PRODUCED.left({("crm.deals", 0): 106, ("crm.deals", 1): 1}) == 3
    assert PRODUCED.left({("crm.deals", 0): 107, ("crm.deals", 1): 4}) == 0


def test_no_more_is_left_than_there_is() -> None:
    assert PRODUCED.left({}) == 10
    assert PRODUCED.left({("crm.deals", 0): -1}) == 10


def test_other_topics_do_not_count() -> None:
    assert PRODUCED.left({("crm.people", 0): 500}) == 10
