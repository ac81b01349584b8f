"""Sources, synapses and stored weights of a box are exactly those of the list of synapses."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from nmc.ir.connectivity import Conv2d, Dense, Pool, Skip
from nmc.ir.mapping import box_indices, box_size, region_mask, whole
from nmc.ir.network import Network
from nmc.passes.partition.boxes import merge_boxes, ranges_of, region_of, tiling
from nmc.passes.partition.geometry import ConvGeometry, geometry_of, source_region
from nmc.testing.random_networks import random_network
from tests.passes.networks import SMALL


def random_box(rng, shape, strided):
    box = []
    for n in shape:
        start, stop = sorted(rng.choice(n + 1, 2, replace=False).tolist())
        box.append((start, stop, int(rng.integers(1, 3)) if strided else 1))
    return tuple(box)


def boxes(rng, shape):
    yield whole(shape)
    for number in range(8):
        yield random_box(rng, shape, strided=number % 2 == 1)


def distinct_weights(network: Network) -> Network:
    """Every non-zero entry of a weight array gets a value of its own, so that uses can be told apart."""

    def renumber(operator):
        weight = np.zeros(operator.weight.shape, dtype=np.int64)
        weight[operator.weight != 0] = np.arange(1, np.count_nonzero(operator.weight) + 1)
        return operator.with_weight(weight)

    projections = tuple(replace(p, connectivity=renumber(p.connectivity)) for p in network.projections)
    return replace(network, projections=projections)


@cache
def networks():
    small = [(name, make()) for name, make in SMALL.items()]
    return small + [(f"random {seed}", random_network(seed)) for seed in range(25)]


@pytest.mark.parametrize("name", [name for name, _ in networks()])
def test_geometry_counts_what_the_synapses_say(name):
    network = dict(networks())[name]
    rng = np.random.default_rng(7)
    for projection in distinct_weights(network).projections:
        shape = network.by_name[projection.target].shape
        geometry = geometry_of(projection, shape)
        target, source, weight = projection.connectivity.synapses()
        for box in boxes(rng, shape):
            inside = np.isin(target, box_indices(box, shape))
            np.testing.assert_array_equal(geometry.sources(box), np.unique(source[inside]))
            assert geometry.synapses(box) == inside.sum()
            if geometry.kernel:
                rows, used = geometry.stored(box)
                full = np.zeros(geometry.stored_shape, dtype=bool)
                full[rows] = used
                if isinstance(projection.connectivity, Conv2d):
                    expected = np.isin(projection.connectivity.weight, weight[inside])
                    np.testing.assert_array_equal(full, expected & (projection.connectivity.weight != 0))
                elif isinstance(projection.connectivity, Skip):
                    assert full.sum() == len(np.unique(weight[inside]))


def test_kernels_are_convolutions_pools_and_skips():
    kinds = {}
    for _, network in networks():
        for projection in network.projections:
            shape = network.by_name[projection.target].shape
            kinds[type(projection.connectivity)] = geometry_of(projection, shape).kernel
    assert {kind for kind, kernel in kinds.items() if kernel} == {Conv2d, Pool, Skip}
    assert not kinds[Dense]


def test_a_tap_that_is_zero_for_all_channels_of_the_box_needs_no_axon():
    network = SMALL["conv"]()
    projection = network.projections[1]
    conv = projection.connectivity
    weight = conv.weight.copy()
    weight[:3, 2] = 0  # Channel 2 feeds only the last three output channels.
    projection = replace(projection, connectivity=conv.with_weight(weight))
    geometry = geometry_of(projection, (6, 4, 4))
    first = geometry.sources(((0, 3, 1), (0, 4, 1), (0, 4, 1)))
    last = geometry.sources(((3, 6, 1), (0, 4, 1), (0, 4, 1)))
    assert set((first // 64).tolist()) == {0, 1, 3}
    assert set((last // 64).tolist()) == {0, 1, 2, 3}


def test_a_strided_pointwise_convolution_hears_every_second_neuron_in_one_box():
    conv = Conv2d(np.ones((2, 3, 1, 1), dtype=np.int64), (3, 8, 8), (2, 2))
    projection = replace(SMALL["conv"]().projections[0], connectivity=conv)
    mask = np.zeros(3 * 64, dtype=bool)
    mask[geometry_of(projection, (2, 4, 4)).sources(((0, 1, 1), (1, 3, 1), (0, 4, 1)))] = True
    assert region_of(mask.reshape(3, 8, 8)) == (((0, 3, 1), (2, 5, 2), (0, 7, 2)),)


@pytest.mark.parametrize("shape", [(17,), (5, 6), (3, 5, 4)])
def test_region_of_is_exact_and_disjoint(shape):
    rng = np.random.default_rng(1)
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        for _ in range(20):
            mask = rng.random(shape) < share
            region = region_of(mask)
            np.testing.assert_array_equal(region_mask(region, shape), mask)
            assert sum(box_size(box) for box in region) == mask.sum()


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ([4], [(4, 5, 1)]),
        ([0, 1, 2, 3], [(0, 4, 1)]),
        ([1, 3, 5, 7], [(1, 8, 2)]),
        ([0, 1, 3, 4, 6, 7], [(0, 7, 3), (1, 8, 3)]),
        ([0, 5, 6, 7], [(0, 1, 1), (5, 8, 1)]),
        ([0, 1, 2, 9], [(0, 3, 1), (9, 10, 1)]),
    ],
)
def test_ranges(index, expected):
    assert ranges_of(np.array(index)) == expected


def test_tiling_covers_once_and_merging_undoes_it():
    shape = (5, 7, 4)
    pieces = tiling(shape, (2, 3, 4))
    count = np.zeros(shape, dtype=int)
    for box in pieces:
        count[tuple(slice(*axis) for axis in box)] += 1
    assert len(pieces) == 9
    assert (count == 1).all()
    assert merge_boxes(pieces) == (whole(shape),)
    corner = pieces[:1] + pieces[4:5]
    assert merge_boxes(corner) == tuple(sorted(corner))


@pytest.mark.parametrize("seed", range(6))
def test_regions_of_pruned_kernels_hold_exactly_the_sources(seed):
    """Channels whose taps differ, taps that are no rectangle, and channels that nobody reads."""
    rng = np.random.default_rng(seed)
    groups = int(rng.choice([1, 2]))
    kernel = rng.integers(1, 4, (6, 4 // groups, 3, 3)) * (rng.random((1, 4 // groups, 3, 3)) < 0.5)
    stride, dilation = tuple(rng.integers(1, 3, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist())
    conv = Conv2d(kernel, (4, 9, 8), stride, tuple(rng.integers(0, 3, 4).tolist()), dilation, groups)
    geometry = ConvGeometry(conv, conv.weight != 0, conv.out_shape)
    for box in boxes(rng, conv.out_shape):
        region = source_region(geometry, box, conv.in_shape)
        mask = np.zeros(conv.in_shape, dtype=bool)
        mask.reshape(-1)[geometry.sources(box)] = True
        np.testing.assert_array_equal(region_mask(region, conv.in_shape), mask)
        assert sum(box_size(part) for part in region) == mask.sum()
