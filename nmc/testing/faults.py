"""Faults planted in a mapping, to prove that a checker or a simulator notices them.

Every fault changes what the mapping means: a message is lost, doubled, late, or reaches
other synapses; a core is overbooked; a route does not lead where it says.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nmc.ir.mapping import Routed
from nmc.testing import fault_axons, fault_cores, fault_routes
from nmc.testing.fault_bench import Bench

Fault = Callable[[Bench], Routed | None]
"""Plants one fault; None where the mapping has no part that it could spoil."""

FAULTS: tuple[Fault, ...] = (
    fault_axons.drop_axon_group,
    fault_axons.double_axon_group,
    fault_axons.shrink_axon_region,
    fault_axons.drop_axon_box,
    fault_axons.grow_axon_region,
    fault_axons.shift_axon_region,
    fault_axons.shift_axon_region_back,
    fault_axons.axon_region_outside,
    fault_axons.late_axons,
    fault_axons.early_axons,
    fault_axons.wrong_projection,
    fault_axons.unknown_projection,
    fault_axons.wrong_slice,
    fault_axons.slice_out_of_range,
    fault_cores.swap_core_contents,
    fault_cores.swap_slices,
    fault_cores.missing_core,
    fault_cores.missing_slice,
    fault_cores.doubled_core,
    fault_cores.duplicated_slice,
    fault_cores.shrunk_slice,
    fault_cores.shifted_slice,
    fault_cores.slice_of_another_population,
    fault_cores.host_content_on_core,
    fault_routes.stolen_route,
    fault_routes.doubled_route,
    fault_routes.shrunk_route,
    fault_routes.grown_route,
    fault_routes.shifted_route,
    fault_routes.wrong_destination,
    fault_routes.wrong_source,
    fault_routes.route_of_unknown_slice,
    fault_routes.cut_path,
    fault_routes.empty_path,
    fault_routes.detour,
    fault_routes.backward_path,
    fault_routes.y_before_x,
    fault_routes.path_too_long,
    fault_routes.swapped_places,
    fault_routes.shared_place,
    fault_routes.place_off_the_mesh,
    fault_routes.wrong_chip,
    fault_routes.missing_place,
    fault_routes.moved_host,
)
"""All faults."""


def plant_faults(routed: Routed, seed: int) -> list[tuple[str, Routed]]:
    """Copies of a mapping with one fault each.

    Args:
        routed: a correct mapping.
        seed: decides which of the mapping's parts are spoiled.

    Returns:
        (name of the fault, the spoiled mapping); faults that the mapping has no part for (a
        slice index on cores of one slice, for example) are left out.
    """
    planted = []
    for number, fault in enumerate(FAULTS):
        spoiled = fault(Bench(routed, np.random.default_rng([seed, number])))
        if spoiled is not None:
            planted.append((fault.__name__.replace("_", " "), spoiled))
    return planted
