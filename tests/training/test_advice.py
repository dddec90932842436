import math

import pytest

from tokenpose.training.advice import Validated, advise_next


def validated(*scores: float, every: int = 2) -> list[Validated]:
    return [Validated(every * number, (score,)) for number, score in enumerate(scores, 1)]


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ((50.0, 55.0, 58.0, 60.0, 61.0), "validation still rising: --resume --extend 20 continues"),
        ((50.0, 60.0, 60.9, 61.0, 60.8), "validation has leveled off"),
        ((50.0, 62.0, 61.0, 60.9, 60.8), "validation fell from 62 after 4 epochs: train fewer epochs"),
        ((50.0,), "too few validations"),
    ],
)
def test_last_line_says_what_to_do_next(scores, expected):
    line = advise_next(validated(*scores), ["pck"], epochs=10)
    assert expected in line
    assert line.startswith(f"pck {scores[-1]:.4g} after {2 * len(scores)} epochs: ")


def test_only_the_last_quarter_of_the_latest_annealing_counts_as_rising():
    earlier = validated(50.0, 55.0, 60.0, 60.1, 60.2)
    extended = [*earlier, Validated(30, (61.0,)), Validated(50, (61.2,))]
    assert "leveled off" in advise_next(extended, ["pck"], epochs=40)
    assert "--extend 80" in advise_next([*extended[:-1], Validated(50, (61.6,))], ["pck"], epochs=40)


def test_score_that_never_changes_leaves_the_judgment_to_the_next():
    both = [Validated(epoch, (0.0, score)) for epoch, score in ((2, 10.0), (6, 12.0), (10, 20.0))]
    assert advise_next(both, ["ap", "pck"], epochs=10).startswith("pck 20 after 10 epochs: validation still rising")
    assert advise_next([*both, Validated(12, (1.0, 5.0))], ["ap", "pck"], epochs=10).startswith("ap 1 after 12 epochs")


def test_unknown_score_ranks_below_all_others():
    assert Validated(1, (math.nan, 9.0)).rank < Validated(2, (0.0, 1.0)).rank
