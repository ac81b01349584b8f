"""Numbers with units, tables that keep every character, JSON that is JSON."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nmc.compiler.cli.rendering import count, energy, percent, printable, seconds, table
from nmc.compiler.cli.session import plain


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (count(1234567), "1,234,567"),
        (count(12.0), "12"),
        (count(12.34), "12.3"),
        (count(0.01234), "0.0123"),
        (count(None), "-"),
        (percent(0.98765), "98.8 %"),
        (percent(0.98765, 2), "98.77 %"),
        (percent(None), "-"),
        (seconds(0.0123), "12.3 ms"),
        (seconds(0.0000123), "12.3 µs"),
        (seconds(0), "0 µs"),
        (seconds(12.34), "12.3 s"),
        (energy(12.3), "12.3 nJ"),
        (energy(12_300.0), "12.3 µJ"),
        (energy(12_300_000.0), "12.3 mJ"),
        (energy(2.5e9), "2.5 J"),
        (energy(None), "-"),
    ],
)
def test_units(shown: str, expected: str) -> None:
    assert shown == expected


def test_printable_keeps_letters_of_all_scripts() -> None:
    assert printable("conv1 é 畳 µ") == "conv1 é 畳 µ"
    assert printable("a\nb\tc\x7f\u2028\ud800\U000e0001") == "a\\x0ab\\x09c\\x7f\\u2028\\ud800\\U000e0001"


def test_tables_are_not_markup() -> None:
    out = io.StringIO()
    Console(file=out, width=80).print(table(["name", "#count"], [("[red]x[/red]", 3), ("a\x1b[31m", 4)]))
    assert "[red]x[/red]" in out.getvalue()
    assert "a\\x1b[31m" in out.getvalue()


def test_plain_values() -> None:
    value = {
        "path": Path("a/b"),
        "scalar": np.float32(0.5),
        "array": np.arange(3),
        "nan": float("nan"),
        "nested": [(1, 2), {"inf": float("inf")}],
        3: True,
    }
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "path": "a/b",
        "scalar": 0.5,
        "array": [0, 1, 2],
        "nan": None,
        "nested": [[1, 2], {"inf": None}],
        "3": True,
    }
