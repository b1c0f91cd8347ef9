"""SNR of one large matrix: published statistics, those of values at hand, and what follows from them."""

import numpy as np
import pytest

from pim.devices.catalogue import preset
from pim.devices.device import replace
from pim.devices.errors import DeviceError
from pim.devices.random import root_key
from pim.errors import StudyError
from pim.layer_noise import drawn, layer_snr
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.model import load_model
from pim.llm_workloads.products import products
from pim.llm_workloads.statistics import Statistics, known_statistics, measured, statistics, statistics_sources
from pim.llm_workloads.text import as_scored

DEVICE = replace(preset("rram-milo2021"), {"rows": 64})
QUICK = {"vectors": 32, "calibration": 64, "progress": False}
EVERY = [(kind, name) for kind, by_name in known_statistics().items() for name in by_name]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_published_statistics_say_where_each_figure_comes_from(kind, name):
    of = statistics(kind, name)
    assert of.summary
    for key, figure in of.figures.items():
        assert getattr(of, key) == figure.value
        assert figure.source in statistics_sources()
        assert figure.grade in ("stated", "derived", "recalled")
        assert figure.note


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_what_is_drawn_has_the_statistics_asked_for(kind, name):
    of = statistics(kind, name)
    values = np.asarray(drawn(of, root_key(1), 1000, 3000))
    found = measured(values)
    assert found.zero_share == pytest.approx(of.zero_share, abs=0.002)
    assert found.outlier_share == pytest.approx(of.outlier_share, abs=1e-9)
    assert found.outlier_ratio == pytest.approx(of.outlier_ratio, rel=0.15)
    assert found.one_sided == of.one_sided
    assert found.nu is None if of.nu is None else found.nu == pytest.approx(of.nu, rel=0.05)


def test_laplace_is_told_as_four_degrees_of_freedom():
    """Mean magnitude over root mean square is 1 / sqrt(2) of both."""
    assert measured(np.random.default_rng(0).laplace(size=(2000, 500))).nu == pytest.approx(4.0, rel=0.03)


def test_outlier_channels_stay_where_they_are():
    of = statistics("activations", "hidden")
    first, second = (np.square(np.asarray(drawn(of, root_key(1), count, 2000))).mean(axis=0) for count in (100, 300))
    assert set(np.flatnonzero(first > 50)) == set(np.flatnonzero(second > 50))
    assert (first > 50).sum() == of.outliers(2000) == 2


def test_samples_are_drawn_as_they_are():
    values = np.array([[1.0, 20.0], [-3.0, 40.0]])
    of = measured(values, "mine", keep=True)
    assert set(np.unique(drawn(of, root_key(0), 64, 2)[:, 1])) == {20.0, 40.0}
    assert set(np.unique(drawn(of, root_key(0), 64, 6))) <= {1.0, -3.0, 20.0, 40.0}


def test_statistics_of_a_model_at_hand():
    """Inputs of the last matrix of an FFN have heavier tails than those behind a norm."""
    model = load_model("tiny-stories")
    text = as_scored("The cat sat on the mat. The dog ran to the tree. " * 8, model.tokenizer, context=64)
    found = {(p.layer, p.operator): measured(p.x) for p in products(model, text)}
    last = found[(0, "ffn.down")].nu
    assert last is not None
    assert last < 4
    assert (found[(0, "ffn.gate")].nu or 100.0) > 2 * last
    assert found[(0, "ffn.gate")].figures["zero_share"].grade == "measured"


def test_products_are_those_of_the_model():
    model = load_model("tiny-stories")
    text = as_scored("One day a cat sat on a mat.", model.tokenizer, context=32)
    last = list(products(model, text))[-1]
    logits = np.asarray(model.logits(text.tokens))[text.valid_tokens()]
    np.testing.assert_allclose(last.x @ last.weights, logits, atol=2e-4)
    assert last.operator == "head"
    np.testing.assert_array_equal(last.rows[:, 1], np.arange(text.lengths[0]))


def test_noise_of_a_layer_by_source_chip_and_width():
    found = layer_snr([64, (256, 24)], DEVICE, weights="gaussian", activations="gaussian", chips=2, **QUICK)
    data = found.to_dataset()
    assert dict(data.sizes) == {"shape": 2, "chip": 2, "source": len(found.sources)}
    assert data["n_in"].values.tolist() == [64, 256]
    assert data["n_out"].values.tolist() == [256, 24]
    np.testing.assert_allclose(data["noise"].sum("source") + data["cross"], data["total"], rtol=1e-6)
    # Errors of cells and steps of each tile add up as the products do: with like values the SNR is that of any width.
    assert np.ptp(data["total_snr"].mean("chip").values) < 1.5
    more = layer_snr(64, DEVICE, weights="gaussian", activations="gaussian", chips=3, **QUICK)
    assert more.splits[0][:2] == found.splits[0]
    assert "± " in str(found)
    assert len(found.plot().axes) == 1


@pytest.mark.slow
def test_outlier_channels_cost_precision_of_the_inputs():
    plain, outlying = (
        layer_snr((1024, 16), DEVICE, activations=of, chips=1, **QUICK).splits[0][0].noise["quantisation"]
        for of in ("gaussian", Statistics("outlying", outlier_share=0.004, outlier_ratio=100.0))
    )
    assert plain < 1e-3
    # The range is 100 times as wide, so the steps are; the four channels make the product 200 times as large.
    assert outlying > 5 * plain


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"shape": []}, StudyError, "give inputs and outputs"),
        ({"shape": (0, 4)}, StudyError, "give inputs and outputs"),
        ({"chips": 0}, StudyError, "chips = 0"),
        ({"vectors": 0}, StudyError, "vectors = 0"),
        ({"weights": "heavy"}, WorkloadError, "no weights called 'heavy'"),
        ({"device": preset("digital-28nm")}, DeviceError, "no analog cells"),
    ],
)
def test_what_makes_no_sense_says_so(change, error, match):
    with pytest.raises(error, match=match):
        layer_snr(**{"shape": 64, "device": DEVICE, **QUICK, **change})


def test_statistics_that_make_no_sense_say_so():
    with pytest.raises(WorkloadError, match="more than 2"):
        Statistics("flat", nu=2.0)
    with pytest.raises(WorkloadError, match="zero_share"):
        Statistics("empty", zero_share=1.0)
    with pytest.raises(WorkloadError, match="not all zero"):
        measured(np.zeros((4, 4)))
    with pytest.raises(WorkloadError, match="no statistics of 'biases'"):
        statistics("biases", "llm")


def test_the_first_of_a_text_keeps_its_rows():
    tokenizer = load_model("tiny-stories").tokenizer
    text = as_scored("One day.<|endoftext|>The cat sat on a mat.<|endoftext|>A dog ran.", tokenizer, context=32)
    first, second = text.lengths[:2]
    two = text.head(int(first + second))
    assert two.count == 2
    assert [row.tolist() for row in two.rows()] == [row.tolist() for row in text.rows()[:2]]
    assert text.head(int(first + second) - 1).count == 1
    assert text.head(2).lengths.tolist() == [2]
    assert text.head(1000).count == 3
    with pytest.raises(WorkloadError, match="at least 2"):
        text.head(1)
