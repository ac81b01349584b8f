"""LayerGraph to LayerGraph: fold, remove, legalise."""

from nmc.passes.base import Pass
from nmc.passes.simplify.approximate_activation import ApproximateActivation
from nmc.passes.simplify.average_maxpool import AverageMaxpool
from nmc.passes.simplify.canonicalise import Canonicalise
from nmc.passes.simplify.fold_batchnorm import FoldBatchnorm
from nmc.passes.simplify.fold_constants import FoldConstants
from nmc.passes.simplify.fold_layout import FoldLayout
from nmc.passes.simplify.fold_pad import FoldPad
from nmc.passes.simplify.fold_quantization import FoldQuantization
from nmc.passes.simplify.fuse_linear import FuseLinear
from nmc.passes.simplify.legalise_activation import LegaliseActivation
from nmc.passes.simplify.legalise_maximum import LegaliseMaximum
from nmc.passes.simplify.legalise_pooling import LegalisePooling
from nmc.passes.simplify.legalise_shortcut import LegaliseShortcut
from nmc.passes.simplify.pool_slices import PoolSlices
from nmc.passes.simplify.refuse_approximation import RefuseApproximation
from nmc.passes.simplify.relay_linear import RelayLinear
from nmc.passes.simplify.relay_pooling import CONSTANT_AXONS, RelayPooling
from nmc.passes.simplify.remove_identity import RemoveIdentity
from nmc.passes.simplify.split_concat import SplitConcat


def simplify_passes(
    *,
    strict: bool = False,
    maxpool: str = "exact",
    constant_axons: int = CONSTANT_AXONS,
    relay_linear: bool = False,
) -> tuple[Pass, ...]:
    """The simplify stage in order: from a graph as read to the canonical form.

    What changes values comes first, so that all passes behind are held to the same values.

    Args:
        strict: refuse what can only be approximated.
        maxpool: ``exact`` or ``average``.
        constant_axons: as in `RelayPooling`; codings that keep biases in neurons need none.
        relay_linear: the coding has messages that carry a sign, so that linear values may have neurons.
    """
    first: tuple[Pass, ...] = (RefuseApproximation(maxpool),) if strict else ()
    averaged: tuple[Pass, ...] = (AverageMaxpool(),) if maxpool == "average" else ()
    relays: tuple[Pass, ...] = (RelayLinear(),) if relay_linear else ()
    return (
        *first,
        FoldQuantization(),
        ApproximateActivation(),
        *averaged,
        FoldConstants(),
        RemoveIdentity(),
        FoldBatchnorm(),
        FoldPad(),
        PoolSlices(),
        LegaliseActivation(),
        SplitConcat(),
        LegaliseMaximum(),
        LegalisePooling(),
        LegaliseShortcut(),
        FoldLayout(),
        RelayPooling(constant_axons),
        *relays,
        FuseLinear(),
        Canonicalise(),
    )
