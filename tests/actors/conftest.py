"""What tests of actors and adapters may ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.actors.redis_fixture import RedisPair


@pytest.fixture(scope="session")
def redis_pair() -> Iterator[RedisPair]:
    """A real ledger and bus for the session."""
    pair = RedisPair()
    yield pair
    pair.close()


@pytest.fixture
def embedded_redis(redis_pair: RedisPair) -> RedisPair:
    """The session's servers, emptied."""
    redis_pair.fresh()
    return redis_pair


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print a measured figure where the run's reader sees it, passed or not."""

    def show(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}")

    return show
