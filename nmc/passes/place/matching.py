"""Sites for clusters that may not lie everywhere: a matching, or the clusters that crowd a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nmc.passes.place.regions import Sites


@dataclass(frozen=True)
class Crowd:
    """Clusters that may lie on a few sites only, and are more than those.

    Attributes:
        clusters: their numbers.
        sites: all that any of them may lie on.
    """

    clusters: tuple[int, ...]
    sites: Sites


def matched(regions: Sequence[Sites | None]) -> tuple[tuple[Crowd, ...], tuple[int, ...]]:
    """A site of its own for each cluster, or why there is none.

    Clusters take the first sites of their regions in their order; where that leaves one
    without, others make room along an augmenting path (Hall's theorem says when that fails).

    Args:
        regions: the sites that a cluster may lie on; None: any.

    Returns:
        the crowds, and if there is none the site of each cluster; those without a region
        take the first sites that are left, as many as there are.
    """
    site_of: dict[int, int] = {}
    holder: dict[int, int] = {}
    crowds: list[Crowd] = []
    ordered = {region: sorted(region) for region in {*regions} if region is not None}
    choices = [[] if region is None else ordered[region] for region in regions]
    for cluster, region in enumerate(regions):
        if region is None or any(region <= crowd.sites for crowd in crowds):
            continue
        crowded = _augment(cluster, choices, site_of, holder)
        if crowded is not None:
            members = (n for n, r in enumerate(regions) if r is not None and r <= crowded)
            crowds.append(Crowd(tuple(members), crowded))
    if crowds:
        return tuple(crowds), ()
    site = 0
    for cluster, region in enumerate(regions):
        if region is None:
            while site in holder:
                site += 1
            site_of[cluster] = site
            site += 1
    return (), tuple(site_of[cluster] for cluster in range(len(regions)))


def _augment(
    start: int, choices: Sequence[Sequence[int]], site_of: dict[int, int], holder: dict[int, int]
) -> Sites | None:
    """Find a site for one more cluster, moving others; the sites that are full if there is none."""
    reached_by: dict[int, int] = {}
    queue = [start]
    for cluster in queue:
        for site in choices[cluster]:
            if site in reached_by:
                continue
            reached_by[site] = cluster
            if site in holder:
                queue.append(holder[site])
                continue
            while True:
                mover = reached_by[site]
                left = site_of.get(mover)
                site_of[mover], holder[site] = site, mover
                if left is None:
                    return None
                site = left
    return frozenset(reached_by)
