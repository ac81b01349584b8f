"""The keys of a target file: type, range, and whether a key may be left out.

The keys are the field names of `nmc.hardware.target`; docs/formats.md section 4 lists them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nmc.hardware.neuron_models import MODELS
from nmc.ir.neurons import Reset

RESETS = tuple(str(reset) for reset in Reset)
"""What a spike may do to the potential."""


@dataclass(frozen=True)
class Key:
    """What a key holds.

    Attributes:
        kind: ``int``, ``number``, ``text``, ``flag``, ``ints``, ``names`` or ``pairs`` (a list of
            [int, number]).
        low, high: smallest and largest number allowed; None: any.
        choices: the names allowed; empty: any text.
        required: a file without the key (after `extends`) is refused.
        length: number of entries of a list; None: any.
    """

    kind: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    length: int | None = None

    @property
    def numeric(self) -> bool:
        """Whether the key needs an entry in ``[sources]``."""
        return self.kind in ("int", "number", "ints")


def _count(required: bool = False) -> Key:
    return Key("int", low=1, required=required)


_COST = Key("number", low=0)

SECTIONS: Mapping[str, Mapping[str, Key]] = {
    "target": {
        "name": Key("text", required=True),
        "family": Key("text", required=True),
        "description": Key("text"),
        "extends": Key("text"),
    },
    "grid": {
        "tiles_x": _count(required=True),
        "tiles_y": _count(required=True),
        "cores_per_tile": _count(),
        "chips": _count(),
        "chips_max": _count(),
        "host_port": Key("ints", low=0, length=2),
        "unavailable_cores": Key("ints", low=0),
        "crossing_links": _count(),
    },
    "core": {
        "neurons": _count(required=True),
        "in_axons": _count(),
        "out_axons": _count(),
        "synapse_bits": _count(),
        "threshold_profiles": _count(),
    },
    "neurons": {
        "models": Key("names", choices=MODELS, required=True),
        "resets": Key("names", choices=RESETS, required=True),
        "microcode": Key("names", choices=(*RESETS, *MODELS)),
        "threshold_max": _count(),
        "bias_mantissa_max": Key("int", low=0),
        "bias_exponent_max": Key("int", low=0, high=16),
        "refractory_max": _count(),
        "sum_bits": Key("int", low=16, high=62),
    },
    "messages": {
        "graded_bits": Key("int", low=0, high=32),
        "input_bits": Key("int", low=0, high=32),
    },
    "weights": {
        "bits": Key("int", low=1, high=32, required=True),
        "step": Key("int", low=1, required=True),
        "low": Key("int", high=0, required=True),
        "high": Key("int", low=0, required=True),
        "exponent_min": Key("int", low=-31, high=31),
        "exponent_max": Key("int", low=-31, high=31),
        "delay_max": _count(),
        "shared": Key("flag"),
    },
    "host": {"op_pj": _COST},
}
"""Fixed sections; ``[energy.PROFILE]`` and ``[sources]`` have names of their own."""

ENERGY: Mapping[str, Key] = {
    "source": Key("text", required=True),
    "synapse_pj": Key("number", low=0, required=True),
    "neuron_pj": Key("number", low=0, required=True),
    **{
        key: _COST
        for key in (
            "neuron_active_pj",
            "spike_pj",
            "packet_pj",
            "hop_ew_pj",
            "hop_ns_pj",
            "synapse_ns",
            "neuron_ns",
            "neuron_active_ns",
            "spike_ns",
            "packet_ns",
            "axon_in_ns",
            "hop_ew_ns",
            "hop_ns_ns",
            "static_mw",
        )
    },
    "sync_ns": Key("pairs", low=0),
}
"""Keys of one energy profile."""


def type_problem(key: Key, value: object) -> str | None:
    """What is wrong with the type of a value, or None."""
    wanted = {
        "int": "an integer",
        "number": "a number",
        "text": "a text",
        "flag": "true or false",
        "ints": "a list of integers",
        "names": "a list of names",
        "pairs": "a list of [tiles, ns]",
    }[key.kind]
    return None if _has_kind(key.kind, value) else f"must be {wanted}, is {value!r}"


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or (isinstance(value, float) and abs(value) < float("inf"))


def _has_kind(kind: str, value: object) -> bool:
    match kind:
        case "int":
            return _is_int(value)
        case "number":
            return _is_number(value)
        case "text":
            return isinstance(value, str)
        case "flag":
            return isinstance(value, bool)
        case "ints":
            return isinstance(value, list) and all(_is_int(item) for item in value)
        case "names":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case _:
            return isinstance(value, list) and all(
                isinstance(item, list) and len(item) == 2 and _is_int(item[0]) and _is_number(item[1]) for item in value
            )


def range_problem(key: Key, value: object) -> str | None:
    """What is wrong with a value of the right type, or None."""
    items: list[Any] = value if isinstance(value, list) else [value]
    if key.length is not None and len(items) != key.length:
        return f"must have {key.length} entries, has {len(items)}"
    if key.kind == "names":
        if not items and key.required:
            return "must name at least one"
        wrong = [name for name in items if name not in key.choices]
        return f"knows {', '.join(key.choices)}, not {', '.join(wrong)}" if wrong else None
    if key.kind in ("text", "flag"):
        return None
    for number in (number for item in items for number in (item if isinstance(item, list) else [item])):
        if key.low is not None and number < key.low:
            return f"is {number}, the smallest allowed is {key.low:g}"
        if key.high is not None and number > key.high:
            return f"is {number}, the largest allowed is {key.high:g}"
    return None
