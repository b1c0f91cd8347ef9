"""Attention to a share of the tokens: what is left of its products, of a screen in front of them, and of their cost."""

from dataclasses import replace

import numpy as np
import pytest

from pim.costs.plan_cost import plan_cost
from pim.devices.catalogue import preset
from pim.emulation import emulated
from pim.errors import StudyError
from pim.llm_workloads.errors import WorkloadError
from pim.llm_workloads.known_shapes import known_shape
from pim.llm_workloads.operators import SCREEN, Phase, layer_operators, operator_paths, products, vector_work
from pim.llm_workloads.sparsity import sparser
from pim.mapping.errors import MappingError
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.mapping.system_file import load_system

BERT = replace(known_shape("bert-base"), num_hidden_layers=2)
PHASE = Phase(batch=2, tokens=8, context=40, causal=False)


def counts(config):
    work = {item.path: item for item in vector_work(config, PHASE)}
    return {item.path: item for item in products(config, PHASE)}, work


@pytest.mark.parametrize("by", ["pattern", "screen", "scores"])
def test_a_quarter_of_the_scores(by):
    """All values of a token are written and held as ever; scores and values that are read are a quarter."""
    whole, work = counts(BERT)
    some, less = counts(sparser(BERT, 0.25, by))
    qk, pv = (some[f"layers.1.attention.{end}"] for end in ("qk", "pv"))
    share = 1.0 if by == "scores" else 0.25
    assert qk.macs == share * whole["layers.1.attention.qk"].macs
    assert pv.macs == 0.25 * whole["layers.1.attention.pv"].macs
    assert less["layers.1.attention.softmax"].elements == 0.25 * work["layers.1.attention.softmax"].elements
    for path, product in whole.items():
        assert (some[path].held, some[path].written) == (product.held, product.written)
    assert {p for p in some if some[p] != whole.get(p)} <= {f"layers.{i}.{o}" for i in range(2) for o in
                                                             ("attention.qk", "attention.pv", SCREEN)}  # fmt: skip


def test_a_screen_scores_all_tokens_first():
    config = sparser(BERT, 0.25, "screen")
    operators = layer_operators(config)
    assert operators.index(SCREEN) == operators.index("attention.qk") - 1
    assert operator_paths(config) == [p.path for p in products(config, PHASE)]
    screen = {p.path: p for p in products(config, PHASE)}[f"layers.0.{SCREEN}"]
    assert replace(screen, path="layers.0.attention.qk") == counts(BERT)[0]["layers.0.attention.qk"]
    assert SCREEN not in layer_operators(BERT) and SCREEN not in layer_operators(sparser(BERT, 0.25))


def test_a_token_sees_at_least_one():
    few = {p.path: p for p in products(sparser(BERT, 0.01), Phase(context=np.arange(1, 5)))}
    assert np.array_equal(few["layers.0.attention.qk"].n_out, np.ones(4))


def test_the_screen_goes_where_scores_go_unless_a_rule_says_otherwise():
    devices = {"arrays": preset("sram-digital28"), "unit": preset("digital-28nm"), "screen": preset("sram-digital28")}
    rules = [("layers.*.attention.qk", "unit"), ("head", "unit")]
    here = System(devices, rules, attended=0.25, attended_by="screen")
    there = replace(here, rules=[(f"layers.*.{SCREEN}", "screen"), *rules])
    assert place(BERT, here).assignment[f"layers.0.{SCREEN}"] == "unit"
    assert place(BERT, there).assignment[f"layers.0.{SCREEN}"] == "screen"
    run = plan_cost(place(BERT, there), prompt=16, generate=1)
    spent = {
        (o, c): float(e)
        for o, c, e in zip(run.ledger.operators, run.ledger.components, np.asarray(run.ledger.energy), strict=True)
    }
    assert spent[f"layers.1.{SCREEN}", "adder_tree"] > 0 and spent[f"layers.1.{SCREEN}", "write"] > 0


def test_shares_that_cannot_be():
    for share in (0, 1.5, "half"):
        with pytest.raises((WorkloadError, MappingError), match="above 0 and at most 1"):
            System({"unit": preset("digital-28nm")}, attended=share)
    with pytest.raises(WorkloadError, match="take one of pattern, screen, scores"):
        sparser(BERT, 0.5, "luck")
    assert sparser(BERT, 1) == BERT
    with pytest.raises(StudyError, match="priced, not emulated"):
        emulated(place(BERT, System({"unit": preset("digital-28nm")}, attended=0.5)))


def test_files_say_what_is_attended_to():
    assert (load_system("topkima").attended, load_system("topkima").attended_by) == (5 / 128, "scores")
    hardsea = place(BERT, load_system("hardsea"))
    assert hardsea.assignment[f"layers.1.{SCREEN}"] == "screen"
    assert hardsea.assignment["layers.1.attention.qk"] == "weights"
