"""Target files: every problem at once, with the nearest known key; content decides the hash."""

from __future__ import annotations

from importlib.resources import files

import pytest

from nmc.hardware.target import EnergyProfile
from nmc.hardware.target_file import load_target
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.neurons import Reset

FOLDER = files("nmc.backends.loihi") / "targets"

MINIMAL = """
[target]
name = "tiny"
family = "test"

[grid]
tiles_x = 2
tiles_y = 3

[core]
neurons = 16

[neurons]
models = ["lif"]
resets = ["zero"]

[weights]
bits = 4
step = 1
low = -8
high = 7

[energy.paper]
source = "a paper"
synapse_pj = 1
neuron_pj = 2.5

[sources]
"grid.tiles_x" = "a paper"
"grid.tiles_y" = "a paper"
"core.neurons" = "assumed: as the sister chip"
"weights.bits" = "a paper"
"weights.step" = "a paper"
"weights.low" = "a paper"
"weights.high" = "a paper"
"""


def bundled(name):
    return (FOLDER / f"{name}.toml").read_text()


def problems(text, resolve=lambda name: None):
    with pytest.raises(NmcError) as caught:
        load_target(text, resolve)
    assert caught.value.exit_code is ExitCode.USAGE
    return [(d.slug, d.message, d.help) for d in caught.value.diagnostics]


def with_section(section, lines):
    return MINIMAL.replace(f"[{section}]", f"[{section}]\n{lines}", 1)


def test_minimal_file():
    target = load_target(MINIMAL)
    assert (target.name, target.family, target.grid.tiles_x, target.grid.chips, target.grid.chips_max) == (
        "tiny",
        "test",
        2,
        1,
        1,
    )
    assert target.core.in_axons is None and target.host_op_pj is None
    assert target.neurons.resets == (Reset.ZERO,)
    assert target.energy == (EnergyProfile("paper", "a paper", 1.0, 2.5),)
    assert target.assumptions == ("core.neurons: assumed: as the sister chip",)
    assert len(target.hash) == 64


def test_loihi1_numbers():
    target = load_target(bundled("loihi1"))
    grid, core, weights = target.grid, target.core, target.weights
    assert grid.cores_per_chip == 128
    assert (core.neurons, core.in_axons, core.out_axons, core.synapse_bits) == (1024, 4096, 4096, 128 * 1024 * 8)
    assert (weights.bits, weights.step, weights.low, weights.high, weights.delay_max) == (9, 2, -256, 254, 62)
    assert (weights.exponent_min, weights.exponent_max, weights.shared) == (-8, 7, True)
    assert (target.messages.graded_bits, target.messages.input_bits) == (0, 0)
    assert (target.neurons.resets, target.neurons.microcode) == ((Reset.ZERO,), ())
    davies, nahuku = target.energy
    assert (davies.name, davies.synapse_pj, davies.neuron_pj + davies.neuron_active_pj) == ("davies2018", 23.6, 81)
    assert (davies.neuron_ns + davies.neuron_active_ns, davies.static_mw) == (pytest.approx(8.4), None)
    assert (nahuku.name, nahuku.packet_pj, nahuku.sync_ns[-1], nahuku.static_mw) == (
        "sanafe_nahuku",
        111.0,
        (29, 1800.0),
        104.4,
    )
    assert "TODO check" in target.sources["core.threshold_profiles"]


def test_loihi2_differs_where_it_says():
    first, second = load_target(bundled("loihi1")), load_target(bundled("loihi2"), bundled)
    assert (second.core.neurons, second.core.synapse_bits) == (8192, 12000 * 16 * 8)
    assert (second.core.out_axons, second.core.threshold_profiles) == (None, None)
    assert (second.weights.exponent_min, second.weights.exponent_max) == (None, None)
    assert second.neurons.resets == (Reset.SUBTRACT, Reset.ZERO)
    assert first.neurons.models == ("lif", "refractory")
    assert (first.neurons.refractory_max, second.neurons.refractory_max) == (64, None)
    assert second.neurons.models == ("lif", "graded-relu", "signed", "burst", "refractory", "sigma-delta")
    assert second.neurons.microcode == ("subtract", "signed", "burst", "refractory", "sigma-delta")
    assert (second.messages.graded_bits, second.messages.input_bits) == (24, 16)
    assert second.grid.chips_max > first.grid.chips_max
    for ours, theirs in zip(second.energy, first.energy, strict=True):
        assert ours.source.startswith("published for Loihi 1; no per-operation table of Loihi 2 is published")
        assert (ours.synapse_pj, ours.neuron_pj, ours.hop_ew_pj, ours.sync_ns) == (
            theirs.synapse_pj,
            theirs.neuron_pj,
            theirs.hop_ew_pj,
            theirs.sync_ns,
        )
        assert ours.static_mw is None
    assumed = {text.split(":")[0] for text in second.assumptions}
    assert {"core.neurons", "core.in_axons", "messages.graded_bits", "grid.tiles_x", "host.op_pj"} <= assumed
    assert first.hash != second.hash


def test_messages_of_several_bits_need_room_for_them():
    text = MINIMAL.replace('models = ["lif"]', 'models = ["lif", "signed", "refractory", "burst"]')
    ((slug, message, _),) = problems(text)
    assert slug == "target-range"
    assert message == "neurons.models names signed, burst, whose messages need messages.graded_bits above 0"
    wide = text.replace("[weights]", "[messages]\ngraded_bits = 4\n[weights]")
    assert load_target(wide + '"messages.graded_bits" = "a paper"\n').neurons.models[1] == "signed"


def test_the_hash_is_of_the_content_and_not_of_the_layout():
    lines = MINIMAL.strip().split("\n\n")
    shuffled = "# a comment\n" + "\n\n".join(reversed(lines)).replace("bits = 4", "bits   =  4")
    assert load_target(shuffled).hash == load_target(MINIMAL).hash
    assert load_target(MINIMAL.replace("neurons = 16", "neurons = 17")).hash != load_target(MINIMAL).hash


def test_every_problem_at_once_with_near_misses():
    text = MINIMAL.replace("neurons = 16", "neurons = 0\nin_axon = 5").replace("bits = 4", 'bits = "four"')
    text = text.replace('models = ["lif"]', 'models = ["lif", "relu"]').replace("[weights]", "[weigths]\n[weights]")
    text = text.replace("synapse_pj = 1", "synapse_pj = -1\nhop_we_pj = 3")
    found = problems(text + '"core.neuron" = "x"\n')
    assert sorted(slug for slug, _, _ in found) == [
        "target-range",
        "target-range",
        "target-range",
        "target-type",
        "target-unknown-key",
        "target-unknown-key",
        "target-unknown-key",
        "target-unknown-key",
    ]
    helps = {message: help for _, message, help in found}
    assert helps["key 'core.in_axon' is not known"] == "did you mean 'core.in_axons'?"
    assert helps["section 'weigths' is not known"] == "did you mean 'weights'?"
    assert helps["key 'energy.paper.hop_we_pj' is not known"] == "did you mean 'energy.paper.hop_ew_pj'?"
    assert helps["key in [sources] 'core.neuron' is not known"] == "did you mean 'core.neurons'?"
    assert "core.neurons is 0, the smallest allowed is 1" in helps
    assert "weights.bits must be an integer, is 'four'" in helps
    assert "neurons.models knows lif, if, graded-relu, signed, burst, refractory, sigma-delta, not relu" in helps


@pytest.mark.parametrize(
    ("section", "lines", "slug", "words"),
    [
        ("core", "in_axons = 7", "target-unsourced", "core.in_axons = 7 has no entry in [sources]"),
        ("core", "in_axons = 7.0", "target-type", "core.in_axons must be an integer"),
        ("core", "in_axons = true", "target-type", "core.in_axons must be an integer"),
        ("grid", "host_port = [1]", "target-range", "grid.host_port must have 2 entries"),
        ("grid", 'unavailable_cores = [0, "a"]', "target-type", "must be a list of integers"),
        ("weights", 'shared = "yes"', "target-type", "weights.shared must be true or false"),
        ("energy.paper", "packet_pj = inf", "target-type", "energy.paper.packet_pj must be a number"),
        ("energy.paper", "sync_ns = [[1]]", "target-type", "a list of [tiles, ns]"),
        ("energy.paper", "sync_ns = [[4, 1], [2, 1]]", "target-range", "must name more tiles from entry to entry"),
        ("target", "extends = 3", "target-type", "target.extends must be a text"),
        ("target", 'extends = "other"', "target-extends", "extends 'other', which is not known"),
        ("neurons", "refractory_max = 3", "target-unsourced", "neurons.refractory_max = 3 has no entry in [sources]"),
        ("neurons", "threshold_max = 0", "target-range", "neurons.threshold_max is 0"),
        ("weights", "delay_max = 0", "target-range", "weights.delay_max is 0"),
    ],
)
def test_single_problems(section, lines, slug, words):
    found = problems(with_section(section, lines))
    assert [s for s, _, _ in found] == [slug]
    assert words in found[0][1]


@pytest.mark.parametrize(
    ("old", "new", "sources", "words"),
    [
        (
            "tiles_x = 2",
            "tiles_x = 2\nchips = 3\nchips_max = 2",
            ("grid.chips", "grid.chips_max"),
            "more than grid.chips_max",
        ),
        ("tiles_x = 2", "tiles_x = 2\nhost_port = [2, 0]", ("grid.host_port",), "outside the 2 x 3 tiles"),
        ("tiles_x = 2", "tiles_x = 2\nunavailable_cores = [6]", ("grid.unavailable_cores",), "outside the 6 cores"),
        (
            "tiles_x = 2",
            "tiles_x = 2\nunavailable_cores = [0,1,2,3,4,5]",
            ("grid.unavailable_cores",),
            "leaves no core",
        ),
        ("step = 1", "step = 2", (), "weights.high = 7 is not a multiple of weights.step = 2"),
        (
            "step = 1",
            "step = 1\nexponent_min = 2\nexponent_max = 1",
            ("weights.exponent_min", "weights.exponent_max"),
            "is above weights.exponent_max = 1",
        ),
    ],
)
def test_keys_that_contradict_each_other(old, new, sources, words):
    text = MINIMAL.replace(old, new) + "".join(f'"{key}" = "x"\n' for key in sources)
    ((slug, message, _),) = problems(text)
    assert slug == "target-range" and words in message


def test_missing_keys_and_broken_text():
    found = problems(MINIMAL.replace("neurons = 16", "").replace('source = "a paper"', "").replace("bits = 4", ""))
    assert [m for _, m, _ in found] == [
        "core.neurons is missing",
        "weights.bits is missing",
        "energy.paper.source is missing",
    ]
    assert [slug for slug, _, _ in problems("[target\n")] == ["target-syntax"]
    assert problems("target = 3")[0][0] == "target-type"
    assert problems("[energy]\nsynapse_pj = 3")[0][0] == "target-type"


def test_unreadable_path(tmp_path):
    with pytest.raises(NmcError) as caught:
        load_target(tmp_path / "none.toml")
    assert caught.value.exit_code is ExitCode.USAGE and "No such file" in str(caught.value)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(NmcError, match="not UTF-8"):
        load_target(tmp_path / "latin.toml")
    (tmp_path / "good.toml").write_text(MINIMAL)
    assert load_target(tmp_path / "good.toml") == load_target(MINIMAL)


def test_extends_changes_what_the_file_names_and_takes_away_what_is_absent():
    text = """
[target]
name = "mine"
extends = "loihi1"
[core]
neurons = 512
out_axons = "absent"
[energy.sanafe_nahuku]
static_mw = "absent"
synapse_pj = 24.0
[sources]
"core.neurons" = "assumed: half"
"""
    target, base = load_target(text, bundled), load_target(bundled("loihi1"))
    assert (target.name, target.family) == ("mine", "loihi")
    assert (target.core.neurons, target.core.out_axons, target.core.in_axons) == (512, None, 4096)
    assert target.energy[1].synapse_pj == 24.0 and target.energy[1].static_mw is None
    assert target.energy[1].spike_pj == base.energy[1].spike_pj
    assert target.sources["core.neurons"] == "assumed: half"
    assert target.weights == base.weights


def test_required_keys_cannot_be_absent_and_a_number_needs_its_own_source():
    head = '[target]\nname = "mine"\nextends = "loihi1"\n[core]\n'
    assert problems(head + 'neurons = "absent"', bundled)[0][0] == "target-type"
    assert problems(head + "neurons = 12", bundled)[0][0] == "target-unsourced"


def test_a_circle_of_extends():
    texts = {"a": '[target]\nextends = "b"', "b": '[target]\nextends = "a"'}
    (found,) = problems('[target]\nname = "c"\nextends = "a"', texts.get)
    assert found[0] == "target-extends" and "a > b > a" in found[1]
