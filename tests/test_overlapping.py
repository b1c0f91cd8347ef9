"""Traffic and rewriting that go on behind other work: of two times the longer counts, and energy stays what it was."""

from dataclasses import replace

import numpy as np
import pytest

from pim.costs.costing import cost
from pim.costs.ledger import kind
from pim.devices.catalogue import preset
from pim.devices.components.link import Link
from pim.devices.record import cast
from pim.llm_workloads.families.llama import llama_config
from pim.mapping.errors import MappingError
from pim.mapping.plan import place
from pim.mapping.system import System
from pim.mapping.system_file import load_system

CONFIG = llama_config(96, 64, 160, 2, 4, 2, 16, max_position_embeddings=512)
WIDE = llama_config(512, 1024, 2816, 2, 16, 8, 64, max_position_embeddings=4096)
GPUS = {"gpu": preset("gpu-a100"), "pim": preset("dram-attacc")}
ATTENTION = [("layers.*.attention.qk", "pim", "decode"), ("layers.*.attention.pv", "pim", "decode")]
LAYERS = 2


def link(bytes_per_second: float) -> Link:
    return cast(Link(energy_per_bit=2e-12, bytes_per_second=bytes_per_second, latency=1e-7))


def system(speed: float, **fields) -> System:
    links = {"gpu": link(speed), "gpu-pim": link(speed)}
    return System(GPUS, ATTENTION, counts={"gpu": 4, "pim": 4}, links=links, **fields)


def times(step) -> tuple[dict[str, float], dict[str, float]]:
    """The time of each kind of operator in a layer, and that of what goes over the links for it."""
    work, sent = {}, {}
    for turn in step.run.turns():
        if turn.device == "links":
            sent[turn.what] = sent.get(turn.what, 0.0) + float(turn.time[0]) / LAYERS
        else:
            work[turn.what] = work.get(turn.what, 0.0) + float(turn.time[0]) / LAYERS
    return work, sent


@pytest.mark.parametrize("speed", [1e9, 1e11, 1e13])
def test_traffic_hides_behind_what_gives_or_takes_it(speed):
    """Against a sum by hand: what goes to the banks behind their work, two transfers and a sum behind `o`."""
    plain = cost(place(WIDE, system(speed)), batch=32, context=1024)
    hidden = cost(place(WIDE, system(speed, overlap=("links",))), batch=32, context=1024)
    work, sent = times(plain)
    saved = min(work["attention.qk"], sent["attention.qk"]) + min(work["attention.pv"], sent["attention.pv"])
    saved += min(work["attention.o"], sent["attention.o"] + sent["attention.all_reduce"])
    saved += min(work["ffn.down"], sent["ffn.all_reduce"])
    np.testing.assert_allclose(float(hidden.latency), float(plain.latency) - LAYERS * saved, rtol=1e-4)
    np.testing.assert_allclose(hidden.busy["links"], plain.busy["links"], rtol=1e-5)
    same = lambda step: np.asarray(step.ledger.energy)[[c != "static" for c in step.ledger.components]].sum()
    np.testing.assert_allclose(same(hidden), same(plain), rtol=1e-5)
    assert saved > 0


def test_a_step_is_the_step_of_a_run_and_many_points_are_one_call():
    plan = place(WIDE, system(1e11, overlap=("links",)))
    run, step = cost(plan, batch=4, prompt=16, generate=1), cost(plan, batch=4, context=17)
    np.testing.assert_allclose(float(step.latency), run.decode_latency, rtol=1e-5)
    many = cost(plan, batch=np.array([1, 4, 64]), context=np.array([100, 17, 2000]))
    np.testing.assert_allclose(float(many.latency[1]), float(step.latency), rtol=1e-5)


def test_the_picture_shows_links_beside_devices():
    step = cost(place(WIDE, system(1e11, overlap=("links",))), batch=32, context=1024)
    slots = step.run.slots()
    np.testing.assert_allclose(float(slots[-1].end[0]), float(step.latency), rtol=1e-4)
    on_links = sum(float(slot.end[0] - slot.begin[0]) for slot in slots if slot.turn.device == "links")
    np.testing.assert_allclose(on_links, float(step.busy["links"]), rtol=1e-4)
    beside = [slot for slot in slots if slot.turn.device == "links"]
    others = [slot for slot in slots if slot.turn.device != "links"]
    assert any(a.begin[0] < b.end[0] and b.begin[0] < a.end[0] for a in beside for b in others)
    assert step.plot().axes


def test_arrays_are_rewritten_while_they_multiply():
    """Keys into ReRAM take longer than all queries of a step; values in SRAM take less."""
    for name in ("rram-wan2022", "sram-digital28"):
        devices = {"gpu": preset("gpu-a100"), "kv": preset(name)}
        rules = [("layers.*.attention.qk", "kv"), ("layers.*.attention.pv", "kv")]
        plain, beside = (
            cost(place(CONFIG, System(devices, rules, overlap=overlap)), batch=2, prompt=32, generate=2)
            for overlap in ((), ("writing",))
        )
        for path in ("layers.0.attention.qk", "layers.1.attention.pv"):
            ledger = plain.prefill.ledger
            mine = [i for i, each in enumerate(ledger.operators) if each == path]
            time = {ledger.components[i]: float(ledger.latency[i]) for i in mine}
            write = time.pop("write")
            other = beside.prefill.ledger
            total = sum(float(t) for t, each in zip(other.latency, other.operators, strict=True) if each == path)
            np.testing.assert_allclose(total, max(write, sum(time.values())), rtol=1e-4)
            assert write > 0


def test_experts_wait_for_their_tokens():
    config = replace(WIDE, ffn=replace(WIDE.ffn, experts=4, experts_per_token=2))
    both = replace(system(1e11), experts="spread")
    plain, hidden = (
        cost(place(config, replace(both, overlap=overlap)), batch=32, context=64) for overlap in ((), ("links",))
    )
    work, sent = times(plain)
    saved = min(work["attention.qk"], sent["attention.qk"]) + min(work["attention.pv"], sent["attention.pv"])
    saved += min(work["attention.o"], sent["attention.o"] + sent["attention.all_reduce"])
    saved += min(work["ffn.experts.down"], sent["ffn.combine"])
    np.testing.assert_allclose(float(hidden.latency), float(plain.latency) - LAYERS * saved, rtol=1e-4)
    assert kind("layers.0.ffn.dispatch") in sent


FILE = """
name = "mine"
summary = "overlap"
[devices.gpu]
base = "gpu-a100"
[schedule]
overlap = ["links", "writing"]
"""


def test_files_and_bad_input(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(FILE)
    assert load_system(file).overlap == ("links", "writing")
    for old, new, message in (
        ('["links", "writing"]', '"links"', "schedule.overlap must be a list"),
        ('"writing"', '"writting"', "overlap = 'writting'; did you mean writing"),
        ("overlap =", "interleave = 2\noverlap =", "take one of the two"),
    ):
        file.write_text(FILE.replace(old, new))
        with pytest.raises(MappingError, match=message):
            load_system(file)
