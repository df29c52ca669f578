"""How gaps between answers are counted by the end-to-end tests."""

import itertools
import time

from tests.support.asking import Asking


def test_gaps_are_between_answers_and_at_both_ends():
    asking = Asking(lambda: None)
    asking.answers = [(0.0, None), (1.0, 2), (2.0, 1), (3.0, None), (7.0, 3), (8.0, None)]
    assert asking.gap == 5.0
    assert asking.least == 1


def test_it_asks_until_the_block_ends():
    numbers = itertools.count()
    with Asking(lambda: 1 / next(numbers), interval=0.01) as asking:
        while len(asking.answers) < 3:
            time.sleep(0.01)
    assert asking.answers[0][1] is None, "what raises has no answer"
    assert asking.answers[1][1] == 1
    count = len(asking.answers)
    time.sleep(0.05)
    assert len(asking.answers) == count
