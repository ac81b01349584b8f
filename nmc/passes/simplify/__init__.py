"""LayerGraph to LayerGraph: fold, remove, legalise."""

from nmc.passes.base import Pass
from nmc.passes.simplify.canonicalise import Canonicalise
from nmc.passes.simplify.fold_batchnorm import FoldBatchnorm
from nmc.passes.simplify.fold_constants import FoldConstants
from nmc.passes.simplify.fold_layout import FoldLayout
from nmc.passes.simplify.fold_pad import FoldPad
from nmc.passes.simplify.fuse_linear import FuseLinear
from nmc.passes.simplify.legalise_activation import LegaliseActivation
from nmc.passes.simplify.legalise_maximum import LegaliseMaximum
from nmc.passes.simplify.legalise_pooling import LegalisePooling
from nmc.passes.simplify.legalise_shortcut import LegaliseShortcut
from nmc.passes.simplify.relay_pooling import RelayPooling
from nmc.passes.simplify.remove_identity import RemoveIdentity


def simplify_passes() -> tuple[Pass, ...]:
    """The simplify stage in order: from a graph as read to the canonical form."""
    return (
        FoldConstants(),
        RemoveIdentity(),
        FoldBatchnorm(),
        FoldPad(),
        LegaliseActivation(),
        LegaliseMaximum(),
        LegalisePooling(),
        LegaliseShortcut(),
        FoldLayout(),
        RelayPooling(),
        FuseLinear(),
        Canonicalise(),
    )
