"""ONNX Runtime as the judge: one thread, no optimisations, so that equal inputs give equal outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import onnx
import onnxruntime

from nmc.ir.connectivity import Array, Shape
from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.ir.samples import parted

BATCH = 32
"""Samples per call where the batch axis is free."""

SMALL = 1 << 12
"""Bytes of a stored tensor whose values may decide about shapes."""

VALUES_MAX = 1 << 27
"""Values of one batch of intermediate tensors (512 MiB of float32) that `tensors` aims at."""


class OnnxOracle:
    """An ONNX model, run by ONNX Runtime on the CPU. Samples of several inputs are joined (`nmc.ir.samples`).

    Args:
        onnx_bytes: a serialised model without external data, its first axis the batch.

    Raises:
        NmcError: ``onnx-runtime-refused``: ONNX Runtime cannot load it; exit 3.
    """

    def __init__(self, onnx_bytes: bytes) -> None:
        self._bytes = onnx_bytes
        self._extra: tuple[str, ...] = ()
        self._session = _session(onnx_bytes)
        nodes = self._session.get_inputs()
        self._inputs: tuple[str, ...] = tuple(node.name for node in nodes)
        self._input_shapes: tuple[Shape, ...] = tuple(tuple(node.shape[1:]) for node in nodes)
        self._outputs: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        fixed = nodes[0].shape[0] if nodes[0].shape else None
        self._batch = fixed if isinstance(fixed, int) else None

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self._outputs

    @property
    def names(self) -> list[str]:
        """All that `tensors` can give, sorted."""
        return sorted({*self._computed, *self._inputs})

    def run(self, x: Array) -> Array:
        """The first output, (N, *output shape) float32, of samples (N, *input shape)."""
        return self._run(self._outputs[:1], x, BATCH)[0]

    def outputs(self, x: Array) -> tuple[Array, ...]:
        """All outputs, in order."""
        return tuple(self._run(self._outputs, x, BATCH))

    def tensors(self, x: Array, names: Iterable[str]) -> dict[str, Array]:
        """Values (N, *shape) of tensors of the model, intermediates included, by name.

        Raises:
            NmcError: ``onnx-tensor-unknown``: the model computes no such tensor; exit 3.
        """
        wanted = tuple(dict.fromkeys(names))
        unknown = [name for name in wanted if not self.knows(name)]
        if unknown:
            raise NmcError.single(
                "onnx-tensor-unknown",
                f"the ONNX model computes no tensor {', '.join(repr(n) for n in unknown[:5])}",
                ExitCode.MODEL,
            )
        computed = tuple(name for name in wanted if name not in self._inputs)
        found = {name: part.astype(np.float32) for name, part in self._fed(x).items()}
        if computed:
            found |= dict(zip(computed, self._run(computed, x, self._batch_for(computed)), strict=True))
        return {name: found[name] for name in wanted}

    def knows(self, name: str) -> bool:
        """Whether `tensors` can give this tensor."""
        return name in self._inputs or name in self._computed

    @cached_property
    def _skeleton(self) -> onnx.ModelProto:
        """The model without its weights, which may be half a gigabyte: shapes and names do not need them."""
        model = onnx.load_model_from_string(self._bytes)
        for tensor in model.graph.initializer:
            if len(tensor.raw_data) > SMALL:
                tensor.ClearField("raw_data")
        return model

    @cached_property
    def _computed(self) -> frozenset[str]:
        return frozenset(name for node in self._skeleton.graph.node for name in node.output if name)

    @cached_property
    def _shapes(self) -> Mapping[str, Shape]:
        """Shapes of intermediates without batch axis, as far as shape inference knows them."""
        graph = onnx.shape_inference.infer_shapes(self._skeleton).graph
        return {
            info.name: tuple(max(d.dim_value, 1) for d in info.type.tensor_type.shape.dim[1:])
            for info in (*graph.value_info, *graph.output)
        }

    def _batch_for(self, names: Sequence[str]) -> int:
        values = sum(int(np.prod(self._shapes.get(name, ()))) for name in names)
        return max(1, min(BATCH, VALUES_MAX // max(values, 1)))

    def _that_gives(self, names: Sequence[str]) -> Any:
        """A session with these tensors among its outputs; only one is held at a time, with its weights."""
        extra = tuple(name for name in names if name not in self._outputs)
        if self._session is None or not set(extra) <= set(self._extra):
            self._session, self._extra = None, ()
            # Fields of a serialised message may follow each other in any number of pieces: the
            # weights need not be read. Without a type ONNX Runtime infers it: the name is enough.
            graph = onnx.GraphProto(output=[onnx.ValueInfoProto(name=name) for name in extra])
            self._session = _session(self._bytes + onnx.ModelProto(graph=graph).SerializeToString())
            self._extra = extra
        return self._session

    def _fed(self, x: Array) -> dict[str, Array]:
        """Samples by input."""
        return dict(zip(self._inputs, parted(x, self._input_shapes), strict=True))

    def _run(self, names: Sequence[str], x: Array, batch: int) -> list[Array]:
        step, session = self._batch or batch, self._that_gives(names)
        parts: list[list[Array]] = [[] for _ in names]
        for first in range(0, len(x), step):
            chunk = np.ascontiguousarray(x[first : first + step], dtype=np.float32)
            count = len(chunk)
            if self._batch is not None and count < step:
                # The file fixes its batch: fill it with the last sample again.
                chunk = np.concatenate([chunk, np.repeat(chunk[-1:], step - count, axis=0)])
            for part, value in zip(parts, _made(session, names, self._fed(chunk)), strict=True):
                part.append(value[:count])
        return [np.concatenate(part) for part in parts]


OUT_OF_MEMORY = ("bad allocation", "bad_alloc", "Failed to allocate memory")
"""What ONNX Runtime says where a C++ allocation failed."""


def _made(session: Any, names: Sequence[str], fed: Mapping[str, Array]) -> list[Array]:
    """What a session makes of a batch.

    Raises:
        NmcError: ``onnx-runtime-failed``; exit 3.
        MemoryError: there is not enough.
    """
    try:
        return list(session.run(list(names), fed))
    except MemoryError:
        raise
    except Exception as error:  # as in `_session`
        raise _refused("onnx-runtime-failed", "cannot run the model", error) from error


def _refused(slug: str, what: str, error: Exception) -> NmcError:
    """The error of ONNX Runtime as one of ours.

    Raises:
        MemoryError: that is what it says.
    """
    reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    if any(words in str(error) for words in OUT_OF_MEMORY):
        raise MemoryError(reason) from error
    return NmcError.single(slug, f"ONNX Runtime {what}: {reason}", ExitCode.MODEL)


def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except MemoryError:
        raise
    except Exception as error:  # ONNX Runtime raises its own kinds, all derived from Exception alone
        raise _refused("onnx-runtime-refused", "cannot load the model", error) from error
