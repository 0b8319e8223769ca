"""Transport credit: what one host may have on its way to another, and how it gets it back."""

from __future__ import annotations

from supervisors.transport_credit import CREDIT_MAX, FORGIVE_AFTER_NS, SEEN_EVERY, ReceiveCount, SendCredit


def test_a_silent_peer_takes_so_many_posts_and_no_more_while_others_go_on() -> None:
    credit = SendCredit()
    numbers = [credit.take("hung", 0) for _ in range(CREDIT_MAX + 5)]
    assert numbers == [*range(1, CREDIT_MAX + 1), *[None] * 5]
    assert credit.take("other", 0) == 1


def test_a_report_gives_back_all_up_to_its_number_and_an_older_one_changes_nothing() -> None:
    credit = SendCredit()
    for _ in range(CREDIT_MAX):
        credit.take("peer", 0)
    credit.seen("peer", 8)
    credit.seen("peer", 4)
    assert [credit.take("peer", 0) for _ in range(9)] == [*range(CREDIT_MAX + 1, CREDIT_MAX + 9), None]


def test_a_report_of_what_was_never_sent_gives_no_more_than_was() -> None:
    credit = SendCredit()
    credit.take("peer", 0)
    credit.seen("peer", 1_000)
    assert sum(credit.take("peer", 0) is not None for _ in range(100)) == CREDIT_MAX


def test_posts_lost_on_the_way_cost_no_credit_for_ever() -> None:
    """Counting those handled, instead of naming the newest, would lose a credit with each of them."""
    credit, received = SendCredit(), ReceiveCount()
    taken = 0
    for _ in range(2_000):
        number = credit.take("peer", 0)
        if number is None:
            break
        taken += 1
        if number % 3 == 0 and received.due("me", 1, number):
            credit.seen("peer", number)
    assert taken == 2_000


def test_a_peer_that_stays_silent_for_longer_than_a_hung_one_lives_is_tried_again() -> None:
    credit = SendCredit()
    for _ in range(CREDIT_MAX):
        credit.take("peer", 5)
    assert credit.take("peer", FORGIVE_AFTER_NS) is None
    assert credit.take("peer", FORGIVE_AFTER_NS + 5) == CREDIT_MAX + 1


def test_a_new_incarnation_of_the_peer_has_the_whole_credit() -> None:
    credit = SendCredit()
    for _ in range(CREDIT_MAX):
        credit.take("peer", 0)
    credit.reset("peer")
    assert [credit.take("peer", 0) for _ in range(CREDIT_MAX)] == list(range(1, CREDIT_MAX + 1))


def test_a_receiver_reports_after_so_many_whatever_was_lost_between() -> None:
    received = ReceiveCount()
    due = [number for number in (1, 2, 3, 4, 5, 9, 10, 13, 14) if received.due("peer", 1, number)]
    assert due == [SEEN_EVERY, 9, 13]


def test_a_receiver_counts_anew_for_a_new_incarnation_and_reports_nothing_to_an_old_one() -> None:
    received = ReceiveCount()
    assert [number for number in range(1, 6) if received.due("peer", 1, number)] == [4]
    assert [number for number in range(1, 6) if received.due("peer", 2, number)] == [4]
    assert not any(received.due("peer", 1, number) for number in range(6, 20))
    assert received.due("peer", 2, 8), "the old one's posts did not disturb the count"


def test_credit_is_smaller_than_what_stalls_a_sender_and_every_full_one_is_answered() -> None:
    assert SEEN_EVERY < CREDIT_MAX < 20
