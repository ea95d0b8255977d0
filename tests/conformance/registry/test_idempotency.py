"""B88: a request that is sent twice changes things once."""

import pytest

from limen.contracts.errors import InvalidArgument, NotAllowedNow, Reason
from limen.storage.database import Database
from limen.storage.idempotency import IdempotencyStore, StoredAnswer
from limen.testing.clock import FakeClock
from tests.conformance.registry.making import digest

BODY = digest("body")


@pytest.fixture
def keys(clock: FakeClock) -> IdempotencyStore:
    return IdempotencyStore(clock.utc, kept_for_s=100, in_flight_for_s=10)


def begin(
    database: Database,
    keys: IdempotencyStore,
    key: str = "k",
    principal: str = "ada",
    operation: str = "POST /models",
    body: str = BODY,
) -> StoredAnswer | None:
    with database.transaction() as connection:
        return keys.begin(connection, principal, key, operation, body)


def finish(database: Database, keys: IdempotencyStore, key: str = "k") -> None:
    with database.transaction() as connection:
        keys.finish(connection, "ada", key, 201, b"made")


def test_b88_the_same_request_gets_the_stored_answer(database: Database, keys: IdempotencyStore):
    assert begin(database, keys) is None
    finish(database, keys)
    assert begin(database, keys) == StoredAnswer(201, b"made")
    assert begin(database, keys) == StoredAnswer(201, b"made")


def test_b88_another_request_with_the_key_is_refused(database: Database, keys: IdempotencyStore):
    begin(database, keys)
    for more in ({"body": digest("other")}, {"operation": "DELETE /models"}):
        with pytest.raises(InvalidArgument) as refused:
            begin(database, keys, **more)
        assert refused.value.reason is Reason.KEY_REUSED


def test_b88_a_request_in_flight_is_not_begun_again(database: Database, keys: IdempotencyStore):
    begin(database, keys)
    with pytest.raises(NotAllowedNow) as refused:
        begin(database, keys)
    assert refused.value.reason is Reason.IDEMPOTENCY
    assert refused.value.retry_after_s


def test_b88_principals_do_not_share_keys(database: Database, keys: IdempotencyStore):
    begin(database, keys)
    finish(database, keys)
    assert begin(database, keys, principal="eve", body=digest("other")) is None


def test_b88_a_request_that_failed_may_be_tried_again(database: Database, keys: IdempotencyStore):
    begin(database, keys)
    with database.transaction() as connection:
        keys.forget(connection, "ada", "k")
    assert begin(database, keys) is None
    finish(database, keys)
    # Its commit was cut off: forgetting what did happen must not undo it.
    with database.transaction() as connection:
        keys.forget(connection, "ada", "k")
    assert begin(database, keys) == StoredAnswer(201, b"made")


def test_b88_a_request_of_a_process_that_is_gone_is_given_up(
    database: Database, keys: IdempotencyStore, clock: FakeClock
):
    begin(database, keys)
    clock.advance(11)
    assert begin(database, keys) is None
    with database.transaction() as connection:
        keys.forget_unfinished(connection)
    assert begin(database, keys) is None


def test_b88_answers_are_kept_for_a_while(database: Database, keys: IdempotencyStore, clock: FakeClock):
    begin(database, keys)
    finish(database, keys)
    clock.advance(99)
    assert begin(database, keys) is not None
    clock.advance(2)
    assert begin(database, keys) is None


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", "é"], ids=["empty", "long", "line", "not ASCII"])
def test_b88_a_key_is_short_and_printable(database: Database, keys: IdempotencyStore, key: str):
    with pytest.raises(InvalidArgument) as refused:
        begin(database, keys, key)
    assert refused.value.reason is Reason.IDEMPOTENCY
