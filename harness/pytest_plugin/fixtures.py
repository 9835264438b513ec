"""The fixtures that tests in Python have."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack

import pytest

from harness.boots import Boots, Edit
from harness.cell import Prepared
from harness.cma.helper import Helper
from harness.config import Layout
from harness.guest.guest import Guest
from harness.pytest_plugin.stash import METRICS, SESSION
from harness.results.record import Metric


@pytest.fixture(name="cell", scope="session")
def cell_fixture(pytestconfig: pytest.Config) -> Prepared:
    """The cell under test: its kernel, modules, image and device tree."""
    return pytestconfig.stash[SESSION].prepared


@pytest.fixture
def guest(pytestconfig: pytest.Config) -> Guest:
    """The running guest (`run`, `put`, `get`, `console`, `qmp`), verified against its layout."""
    return pytestconfig.stash[SESSION].live.guest()


@pytest.fixture
def helper(guest: Guest) -> Generator[Helper, None, None]:
    """The default device of kmod/cma_test; its module is loaded for this test only."""
    guest.run("insmod /lib/cma/cma_test.ko").checked("loading cma_test")
    yield Helper(guest)
    guest.run("rmmod cma_test").checked("unloading cma_test")


@pytest.fixture(scope="session")
def boots(pytestconfig: pytest.Config) -> Boots:
    """Boots further guests of this kernel and board, beside the shared one (harness/boots.py).

    `with boots.boot(layout, "cma=24M") as guest:`; a kernel that does not honour the session's own
    layout is not asked for more.
    """
    session = pytestconfig.stash[SESSION]
    session.live.guest()
    return session.further


@pytest.fixture
def boot(boots: Boots) -> Generator[Callable[..., Guest], None, None]:
    """Boot a guest that ends with the test, as `boots.boot` does."""
    with ExitStack() as stack:

        def booted(layout: Layout | str, append: str = "", *, edit: Edit | None = None) -> Guest:
            return stack.enter_context(boots.boot(layout, append, edit=edit))

        yield booted


@pytest.fixture
def metric(request: pytest.FixtureRequest) -> Callable[[str, float, str], None]:
    """Keep a figure of the test in run.json: `metric("took", 12.5, "ms")`; "" for plain numbers.

    The same place that a KUnit case's `# key: value` lines have: the case's `metrics`.
    """
    kept = request.node.stash.setdefault(METRICS, {})

    def keep(name: str, value: float, unit: str) -> None:
        kept[name] = Metric(value=value, unit=unit)

    return keep
