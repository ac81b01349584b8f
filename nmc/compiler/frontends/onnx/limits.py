"""What a model may ask for, in one place; every refusal quotes its limit.

Each is far above what networks for these chips need, and low enough that a file within all
of them is read in seconds and in less memory than the reading process may take.
"""

from __future__ import annotations

SIZE_LIMIT = 512 * 2**20
"""Bytes of a model with its external data."""

NODE_LIMIT = 100_000
"""Nodes of a model, functions inlined; light models of the ONNX project have 1,746 at the most."""

OPSETS = (6, 26)
"""Versions of the standard operators that are read; ONNX Runtime knows none above."""

IR_VERSIONS = (3, 14)
"""Versions of the file format that are read."""

NAME_LIMIT = 4096
"""Characters of a name; exporters that write scopes into names stay below 500."""

TEXT_LIMIT = 1000
"""Characters of a message or of its help: a problem fills less than 4 KiB."""

PROBLEM_LIMIT = 200
"""Problems that are reported one by one; of the others their number."""

RANK_LIMIT = 16
"""Axes of a tensor; the deepest channel shuffle has 7."""

LIST_LIMIT = 4096
"""Elements of an attribute that is a list, but for the values of a Constant."""

DEPTH_LIMIT = 8
"""Bodies within bodies of control flow."""

ELEMENT_LIMIT = 2**26
"""Numbers of an activation of one sample: 256 MiB of float32."""

TOTAL_LIMIT = 2**30
"""Numbers of all activations of one sample; a ResNet-50 has 2**25."""

WORK_LIMIT = 2**37
"""Multiplications of one sample; a VGG-19 has 2**34."""

FOLD_LIMIT = 2**27
"""Elements of a folded tensor (512 MiB of float32); the largest of a VGG-19 has 103 million."""
