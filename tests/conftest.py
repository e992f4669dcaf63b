"""How Hypothesis searches: HYPOTHESIS_PROFILE names a profile, the default is `ci` or `dev`.

And the one PostgreSQL server that all tests share.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No example has a deadline: a busy machine is not a fault.
settings.register_profile("dev", deadline=None)
# The same examples every time, and what it takes to repeat one that fails.
settings.register_profile(
    "ci", settings.get_profile("dev"), derandomize=True, database=None, print_blob=True
)
# With the sanitizers on, an example takes many times as long.
settings.register_profile(
    "checked",
    settings.get_profile("ci"),
    max_examples=25,
    suppress_health_check=[HealthCheck.too_slow],
)
# Two million steps of tests/test_dispatch_machine.py, which takes twice as many of each.
settings.register_profile(
    "nightly", deadline=None, max_examples=5_500, stateful_step_count=100, print_blob=True
)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if "CI" in os.environ else "dev"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[object]:
    from servers import Postgres, postgres_programs

    if postgres_programs() is None:
        pytest.skip("PostgreSQL is not installed: initdb was not found")
    server = Postgres()
    yield server
    server.close()
