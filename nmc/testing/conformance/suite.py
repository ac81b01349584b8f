"""The checks as pytest functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from nmc.backends.api import Backend
from nmc.hardware.target import Target
from nmc.ir.diagnostic import NmcError
from nmc.runtime.device import Device
from nmc.testing.conformance.bench import Bench, Case, cases, neuron_cases
from nmc.testing.conformance.checks import CHECKS, device, follows_the_network
from nmc.testing.conformance.family import FAMILY, TARGET

Test = Callable[..., None]


def suite(
    backend: Callable[[], Backend],
    *,
    exclusions: Mapping[str, str] | None = None,
    marks: Mapping[str, Any] | None = None,
    timesteps: int = 24,
) -> dict[str, Test]:
    """Test functions for a backend: ``globals().update(suite(MyBackend))`` in a test file.

    A check is named ``check``, ``check/target`` or ``check/target-network-coding-reset``, for
    example ``simulator/wren16-conv-rate-zero``, or ``simulator/wren16-signed-neurons`` for networks
    of the neurons that a target names; those of devices begin with ``device-NAME/``.

    Args:
        backend: the class that the entry point names.
        exclusions: pattern of check names -> reason why they fail. They run as strict xfail:
            when one passes, the suite fails until the exclusion is taken out.
        marks: pattern of check names -> a pytest mark for them (a device that is slow or rare).
        timesteps: T of rate coding.

    Raises:
        ValueError: an exclusion or mark matches no check.
    """
    bench = Bench(backend, timesteps)
    targets, devices = _asked(backend)
    chosen = list(cases(targets))
    plan: list[tuple[str, Callable[..., None], list[tuple[str, tuple[object, ...]]]]] = []
    plan += [(check.__name__, check, [("", ())]) for check in FAMILY]
    plan += [(check.__name__, check, [(name, (name,)) for name in targets]) for check in TARGET]
    everything = [*chosen, *neuron_cases(targets)]
    for check in CHECKS:
        # Networks of the neuron kinds have no float network to follow.
        own = chosen if check is follows_the_network else everything
        plan.append((check.__name__, _of_case(check), [(str(case), (case,)) for case in own]))
    for name, executor in devices.items():
        plan.append((f"device-{name}", _on_device(executor), [(str(case), (case,)) for case in everything]))
    names = [_name(check, case) for check, _, found in plan for case, _ in found]
    for pattern in (*(exclusions or {}), *(marks or {})):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"no check of the suite is named '{pattern}'")
    return {
        f"test_{check.replace('-', '_')}": _test(bench, check, act, found, exclusions or {}, marks or {})
        for check, act, found in plan
    }


def _asked(backend: Callable[[], Backend]) -> tuple[Mapping[str, Target], Mapping[str, Device]]:
    """Targets and devices; none where asking fails: the check ``interface`` then says why."""
    try:
        made = backend()
        return made.targets(), made.devices()
    # A stranger's class may raise anything, and must not end the collection of other tests.
    except Exception:
        return {}, {}


def _name(check: str, case: str) -> str:
    return f"{check}/{case}" if case else check


def _test(
    bench: Bench,
    check: str,
    act: Callable[..., None],
    found: Iterable[tuple[str, tuple[object, ...]]],
    exclusions: Mapping[str, str],
    marks: Mapping[str, Any],
) -> Test:
    """One parametrized test function."""
    import pytest

    parameters = []
    for case, arguments in found:
        name = _name(check, case)
        own = [mark for pattern, mark in marks.items() if fnmatchcase(name, pattern)]
        reasons = [reason for pattern, reason in exclusions.items() if fnmatchcase(name, pattern)]
        own += [pytest.mark.xfail(strict=True, reason=reason) for reason in reasons[:1]]
        parameters.append(pytest.param(arguments, id=case or check, marks=own))

    @pytest.mark.parametrize("arguments", parameters)
    def test(arguments: tuple[object, ...]) -> None:
        act(bench, *arguments)

    test.__name__ = test.__qualname__ = f"test_{check.replace('-', '_')}"
    test.__doc__ = act.__doc__
    return test


def _of_case(check: Callable[..., None]) -> Callable[..., None]:
    """The check on what was compiled; skipped where the backend refused the network."""

    def act(bench: Bench, case: Case) -> None:
        import pytest

        made = bench.attempt(case)
        if isinstance(made, NmcError):
            pytest.skip(f"refused: {made}")
        check(bench, case, made)

    act.__doc__ = check.__doc__
    return act


def _on_device(executor: Device) -> Callable[..., None]:
    """The comparison with a device; skipped with the device's own reason where it is missing."""

    def act(bench: Bench, case: Case) -> None:
        import pytest

        made = bench.attempt(case)
        if isinstance(made, NmcError):
            pytest.skip(f"refused: {made}")
        unfit = getattr(executor, "cannot_run", lambda artifact: ())(made)
        reason = executor.missing() or "; ".join(problem.message for problem in unfit)
        if reason:
            pytest.skip(f"{executor.name}: {reason}")
        device(bench, case, made, executor)

    act.__doc__ = device.__doc__
    return act
