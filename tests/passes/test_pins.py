"""The grammar of pins."""

from __future__ import annotations

import pytest

from nmc.ir.diagnostic import ExitCode, NmcError
from nmc.passes.pins import NO_PINS, Pins, Span


def test_places_read_and_written():
    pins = Pins.of({"conv=1": "chip:0", "b": "core:8-15", "c": "tile:0,1-3,2 + core:4", "d": "core:5-5"})
    assert [pin.layer for pin in pins.entries] == ["conv=1", "b", "c", "d"]
    assert pins.entries[2].spans == (Span("tile", (0, 1), (3, 2)), Span("core", (4,), (4,)))
    assert str(pins) == "conv=1=chip:0;b=core:8-15;c=tile:0,1-3,2+core:4;d=core:5"
    assert Pins.of({pin.layer: pin.place for pin in pins.entries}) == pins
    assert bool(pins) and not NO_PINS and Pins.of({}) == NO_PINS


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("", "'' names no place"),
        ("chip", "'chip' names no place"),
        ("chp:0", "did you mean 'chip:'?"),
        ("core:", "'' is no number of a core, like 3"),
        ("core:-1", "'-1' is no number of a core"),
        ("core:1.5", "'1.5' is no number of a core"),
        ("core:3-1", "the range '3-1' ends before it begins"),
        ("tile:3", "'3' is no number of a tile, like 2,1"),
        ("tile:0,3-2,1", "ends before it begins"),
        ("chip:1,2", "'1,2' is no number of a chip"),
        ("core:٣", "is no number of a core"),
        ("core:99999999999999999999", "is no number of a core"),
        ("chip:0+", "'' names no place"),
    ],
)
def test_what_cannot_be_read(place, words):
    with pytest.raises(NmcError) as caught:
        Pins.of({"a": place})
    (found,) = caught.value.diagnostics
    assert caught.value.exit_code is ExitCode.USAGE
    assert found.slug == "pin-syntax" and words in found.message and f"'a={place}'" in found.message
    assert "core:8-15" in found.help


def test_all_at_once():
    with pytest.raises(NmcError) as caught:
        Pins.of({"a": "core:x+chip:y", "b": "tile:1,1", "c": "no"})
    assert len(caught.value.diagnostics) == 3
