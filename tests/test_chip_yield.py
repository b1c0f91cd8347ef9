"""The share of chips that are within a stated loss, and what so few chips leave open."""

import numpy as np
import pytest

import pim
from pim.errors import StudyError
from pim.metrics import chip_yield
from pim.result import Result
from pim.scoring import Scores

TOKENS = np.array([10, 30])
DIGITAL = np.array([20.0, 50.0])


def _losses(each):
    """Scores of chips that lose so many nats a token, all on the second document."""
    return np.stack([DIGITAL + np.array([0.0, loss * TOKENS.sum()]) for loss in each])


def test_chips_are_counted_by_their_loss_a_token():
    nll = _losses([-0.01, 0.005, 0.02, 0.3])
    shares = [chip_yield(nll, DIGITAL, TOKENS, loss).mean for loss in (-0.02, 0.0, 0.0101, 0.05, 0.5)]
    assert shares == [0.0, 0.25, 0.5, 0.75, 1.0]


def test_few_chips_leave_much_open():
    few, many = (chip_yield(_losses([0.0] * n), DIGITAL, TOKENS, 0.01) for n in (4, 64))
    assert few.mean == many.mean == few.high == 1.0 and few.low < 0.55 < 0.9 < many.low
    # Wilson's interval, written out, for 3 of 4 chips.
    n, share, z = 4, 0.75, 1.959963985
    centre, half = share + z**2 / 2 / n, z * np.sqrt(share * (1 - share) / n + z**2 / 4 / n**2)
    found = chip_yield(_losses([0.0, 0.0, 0.0, 1.0]), DIGITAL, TOKENS, 0.01)
    np.testing.assert_allclose([found.low, found.high], (centre + np.array([-half, half])) / (1 + z**2 / n), rtol=1e-6)


def test_the_interval_holds_the_share_of_a_large_population():
    rng, true, held = np.random.default_rng(3), 0.8, 0
    for _ in range(400):
        found = chip_yield(_losses(np.where(rng.random(12) < true, 0.0, 1.0)), DIGITAL, TOKENS, 0.5)
        held += found.low <= true <= found.high
    assert 0.92 < held / 400 < 0.99


def test_a_result_tells_the_yield_of_its_chips_at_each_point():
    nll = np.stack([_losses([0.0, 0.0, 0.1]), _losses([0.0, 0.2, 0.1])])
    none = np.zeros_like(nll)
    plan = pim.place("tiny-stories", pim.System({"ideal": pim.preset("ideal")}))
    result = Result(plan, {"a": [1, 2]}, Scores(nll, none, none, none, DIGITAL, DIGITAL, TOKENS), [], {"seed": 0})
    assert [result.chip_yield(0.05, point).mean for point in (0, 1)] == pytest.approx([2 / 3, 1 / 3])
    assert result.chip_yield(0.15).mean == 1.0
    with pytest.raises(StudyError, match="loss = nan"):
        result.chip_yield(float("nan"))
