"""The order of a run's items, and the items that it adds to those that were collected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.live import LiveCell
from harness.pytest_plugin.external import ExternalNode, LoadItem
from harness.pytest_plugin.items import LayoutItem, LeakItem
from harness.pytest_plugin.kunit import CaseItem, KbuildFile, ModuleItem, isolates
from harness.pytest_plugin.stash import SESSION


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Put the layout first, each module's end and each file's leaks to it; plan the record.

    Here, and not in pytest_collection_modifyitems, all that is deselected (-k, --lf) is gone.
    """
    if SESSION not in session.config.stash:
        return
    kept = session.config.stash[SESSION]
    items: list[pytest.Item] = []
    if session.items:
        items.append(LayoutItem.from_parent(session, name="layout", nodeid="layout"))
        items += _with_ends(session, kept.live)
        items += _ends_of_staying(session)
    session.items[:] = items  # pytest counts what is in this list
    kept.plan(item.nodeid for item in items)


def _with_ends(session: pytest.Session, live: LiveCell) -> Iterator[pytest.Item]:
    """Yield the items and, behind the last of each module and file, what ends it.

    In a worker of pytest-xdist an end that has a guest to itself is before the module's cases,
    which have theirs: it takes as long as several of them, and begun last all would wait for it.
    """
    items, config = session.items, session.config
    of_modules = [item for item in items if isinstance(item, CaseItem | LoadItem)]
    last = {item.load: item for item in of_modules}
    first = {item.load: item for item in reversed(of_modules)}
    early = set()
    if hasattr(config, "workerinput"):
        early = {load for load in last if isolates(config, load) and live.all_alone(load)}
    last_of_file = {item.path: item for item in items if item.getparent(pytest.Module)}
    for item in items:
        if not isinstance(item, CaseItem | LoadItem):
            yield item
            if last_of_file.get(item.path) is item and live.finds_leaks:
                yield _leak_item(item)
            continue
        if item.load in early and first[item.load] is item:
            yield _module_item(item)
        yield item
        if item.load not in (*early, *live.staying) and last[item.load] is item:
            yield _module_item(item)


def _ends_of_staying(session: pytest.Session) -> Iterator[pytest.Item]:
    """Yield the ends of the user's modules that tests find loaded, the last one's first."""
    kept = session.config.stash[SESSION]
    modules = {module.name: module for module in kept.prepared.external}
    for load in reversed(kept.live.staying):
        yield ModuleItem.of(ExternalNode.of(session, modules[load.module]), load)


def _leak_item(item: pytest.Item) -> pytest.Item:
    file = item.getparent(pytest.Module)
    assert file is not None
    return LeakItem.from_parent(file, name="kmemleak", nodeid=f"{file.nodeid}::kmemleak")


def _module_item(item: CaseItem | LoadItem) -> pytest.Item:
    file = item.getparent(KbuildFile) or item.getparent(ExternalNode)
    assert file is not None
    return ModuleItem.of(file, item.load)
