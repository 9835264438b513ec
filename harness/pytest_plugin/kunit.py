"""KUnit suites of modules, as items of pytest: a case each, and the module's end."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from harness.image.initramfs import MODULES
from harness.kernel.kunit_elf import Suite
from harness.kernel.modinfo import shares_guest
from harness.kernel.modules import KMOD
from harness.live import LiveCell
from harness.module_run import Load, Outcome
from harness.pytest_plugin.items import TargetItem
from harness.pytest_plugin.stash import SESSION


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect the KUnit cases of the modules that a Kbuild file of kmod/ builds."""
    if file_path.name == "Kbuild" and file_path.parent.parent == KMOD:
        return KbuildFile.from_parent(parent, path=file_path)
    return None


class KbuildFile(pytest.File):
    """A folder of kmod/: the suites of its modules."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        """Yield a node for each suite that the modules hold."""
        prepared = self.config.stash[SESSION].prepared
        for name, path in prepared.modules.items():
            if path.parent.name == self.path.parent.name:
                suites = prepared.modules.suites(name)
                place = f"{MODULES}/{name}.ko"
                load = Load(name, place, suites, shares_guest=bool(suites) and shares_guest(path))
                for suite in suites:
                    node = SuiteNode.from_parent(self, name=suite.name)
                    node.load, node.suite = load, suite
                    yield node


class SuiteNode(pytest.Collector):
    """A KUnit suite of a module."""

    load: Load
    suite: Suite

    def collect(self) -> Iterable[pytest.Item]:
        """Yield an item for each case; one whose name is taken gets its number behind it."""
        seen: set[str] = set()
        for number, case in enumerate(self.suite.cases, 1):
            name = case.name if case.name not in seen else f"{case.name}#{number}"
            seen.add(name)
            item = CaseItem.from_parent(self, name=name)
            item.load, item.suite, item.number = self.load, self.suite.name, number
            yield item


class CaseItem(TargetItem):
    """A KUnit case: the one with `number` in the plan of `suite`."""

    load: Load
    suite: str
    number: int

    def outcome(self, live: LiveCell) -> Outcome:
        """Wait for the case's result; it has a guest and a load to itself, or shares them."""
        timeout: float = self.config.option.case_timeout
        one = live.alone if isolates(self.config, self.load) else live.outcome
        return one(self.load, self.suite, self.number, timeout)


class ModuleItem(TargetItem):
    """The end of a module: what belongs to no case of it, and its unloading."""

    load: Load

    @classmethod
    def of(cls, parent: pytest.Collector, load: Load) -> ModuleItem:
        """Make the item that unloads a module."""
        node_id = f"{parent.nodeid}::{load.module}::unload"
        item = cls.from_parent(parent, name=load.module, nodeid=node_id)
        item.load = load
        return item

    def outcome(self, live: LiveCell) -> Outcome:
        """Unload the module; where no case of it has left it loaded, load it for that."""
        timeout: float = self.config.option.case_timeout
        end = live.end_apart if isolates(self.config, self.load) else live.module_end
        return self.told(end(self.load, timeout))


def isolates(config: pytest.Config, load: Load) -> bool:
    """Whether each case of a module is to have a guest of its own."""
    isolate: bool = config.option.isolate
    return bool(load.suites) and (isolate or not load.shares_guest)
