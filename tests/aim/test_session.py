"""A token is good once, a cookie until the end, and the end comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.aim.session import Session


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_token_is_good_once() -> None:
    session = Session(600, Clock())
    token = session.token
    cookie = session.redeem(token)
    assert cookie is not None
    assert session.knows(cookie)
    assert session.redeem(token) is None
    assert session.knows(cookie)


def test_the_next_token_takes_the_view_over() -> None:
    session = Session(600, Clock())
    first = session.redeem(session.token)
    second = session.redeem(session.token)
    assert first is not None
    assert second is not None
    assert session.knows(second)
    assert not session.knows(first)


def test_nobody_looks_before_a_token_was_used_or_after_the_end() -> None:
    clock = Clock()
    session = Session(600, clock)
    assert not session.knows("")
    cookie = session.redeem(session.token) or ""
    for _ in range(10):
        clock.now += 59.95
        assert session.knows(cookie)
    assert session.left_s == 1
    clock.now += 0.5
    assert session.over
    assert not session.knows(cookie)
    assert session.redeem(session.token) is None
    assert session.left_s == 0


def test_a_view_that_nobody_looks_at_ends() -> None:
    clock = Clock()
    session = Session(600, clock)
    clock.now += 89
    assert session.redeem("guess") is None
    assert not session.over
    clock.now += 1
    assert session.over


def test_it_can_be_ended_early() -> None:
    session = Session(600, Clock())
    cookie = session.redeem(session.token) or ""
    session.end()
    assert session.over
    assert not session.knows(cookie)


@given(st.text())
def test_no_other_word_opens_it(text: str) -> None:
    session = Session(600, Clock())
    assert session.redeem(text) is None
    assert not session.knows(text)
