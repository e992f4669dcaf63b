"""In small worlds, no state of the real dispatcher is unsafe, and none is a dead end."""

import pytest
from dispatch_search import SMALL, Search

from wattfill._records import QUANTA_PER_KW


@pytest.fixture(scope="module", params=SMALL, ids=str)
def search(request):
    """All states of a small world, and the steps to the first that is unsafe."""
    search = Search(*request.param)
    return search, search.run()


def test_no_state_is_unsafe(search):
    _, trace = search

    assert trace is None


def test_all_that_there_is_can_be_drawn(search):
    searched, _ = search

    assert searched.n_states > 2_000
    assert searched.most_drawn == searched.capacity


def test_every_target_is_reached_from_every_state_in_two_round_trips(search):
    searched, _ = search

    searched.check_live()

    assert searched.most_rounds == 2


def test_time_outs_outages_and_restarts_change_nothing():
    search = Search(2, 2, 2, 2, (0, 0), extra=("timeout", "offline", "crash"))

    assert search.run() is None
    assert search.most_drawn == 2 * QUANTA_PER_KW
