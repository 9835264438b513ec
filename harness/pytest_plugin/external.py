"""A user's own modules (--module) as items: the load or the KUnit cases, and the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from harness.kernel.external import External
from harness.live import LiveCell
from harness.module_run import Load, Outcome
from harness.pytest_plugin.items import KERNEL_LOG, TargetItem
from harness.pytest_plugin.kunit import SuiteNode
from harness.pytest_plugin.stash import SESSION


class ExternalNode(pytest.Collector):
    """A user's module; its name is that of the file or directory."""

    load: Load

    @classmethod
    def of(cls, session: pytest.Session, module: External) -> ExternalNode:
        """Make the node of a module; its id is a path where others in this run have one too."""
        root = session.config.rootpath
        below = module.origin.is_relative_to(root)
        name = str(module.origin.relative_to(root)) if below else module.origin.name
        return cls.from_parent(session, name=name, nodeid=name)

    def collect(self) -> Iterator[pytest.Item | pytest.Collector]:
        """Yield its suites, or the one item that loads it."""
        for suite in self.load.suites:
            node = SuiteNode.from_parent(self, name=suite.name)
            node.load, node.suite = self.load, suite
            yield node
        if not self.load.suites:
            module = self.load.module
            item = LoadItem.from_parent(self, name="load", nodeid=f"{self.nodeid}::{module}::load")
            item.load = self.load
            yield item


class LoadItem(TargetItem):
    """The load of a module whose cases are not known before: insmod, faults, and KTAP if any."""

    load: Load

    def outcome(self, live: LiveCell) -> Outcome:
        """Load the module."""
        timeout: float = self.config.option.case_timeout
        return self.told(live.load(self.load, timeout))


def loads(modules: Sequence[External], *, together: bool) -> tuple[Load, ...]:
    """Return how modules are loaded: each with what it needs, or `together` in their order."""
    made: dict[str, Load] = {}
    for module in modules:
        needed = (replace(made[name], behind=()) for name in module.needs)
        made[module.name] = Load(
            module=module.name,
            place=module.place,
            suites=module.suites,
            parameters=module.parameters,
            behind=() if together else tuple(needed),
            lasting=module.info.lasting,
            external=True,
            shares_guest=module.info.shares_guest,
        )
    return tuple(made.values())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(session: pytest.Session, items: list[pytest.Item]) -> None:
    """Put the user's modules before all tests; where there are tests, they stay for these."""
    kept = session.config.stash.get(SESSION, None)
    if kept is None or not kept.prepared.external:
        return
    own: list[pytest.Item] = []
    kept.live.staying = loads(kept.prepared.external, together=True) if items else ()
    for module, load in zip(
        kept.prepared.external,
        kept.live.staying or loads(kept.prepared.external, together=False),
        strict=True,
    ):
        node = ExternalNode.of(session, module)
        node.load = load
        own += session.genitems(node)
    items[:0] = own


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what modules said that passed: the kernel's log is their only voice."""
    for report in terminalreporter.getreports("passed"):
        for title, text in report.sections:
            if title == f"Captured {KERNEL_LOG} call":
                terminalreporter.write_sep("-", f"{KERNEL_LOG}: {report.nodeid}")
                terminalreporter.write_line(text)
