"""The order of a run's items, and the items that it adds to those that were collected."""

from __future__ import annotations

import pytest

from harness.pytest_plugin.items import LayoutItem, LeakItem
from harness.pytest_plugin.kunit import CaseItem, KbuildFile, ModuleItem
from harness.pytest_plugin.stash import SESSION


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Put the layout first, each module's end and each file's leaks behind it; plan the record.

    Here, and not in pytest_collection_modifyitems, all that is deselected (-k, --lf) is gone.
    """
    if SESSION not in session.config.stash:
        return
    live = session.config.stash[SESSION].live
    last = {item.module: item for item in session.items if isinstance(item, CaseItem)}
    last_of_file = {item.path: item for item in session.items if not isinstance(item, CaseItem)}
    items: list[pytest.Item] = []
    if session.items:
        items.append(LayoutItem.from_parent(session, name="layout", nodeid="layout"))
    for item in session.items:
        items.append(item)
        if isinstance(item, CaseItem) and last[item.module] is item:
            items.append(_module_item(item))
        elif last_of_file.get(item.path) is item and live.finds_leaks:
            items.append(_leak_item(item))
    session.items = items
    session.testscollected = len(items)
    session.config.stash[SESSION].plan(item.nodeid for item in items)


def _leak_item(item: pytest.Item) -> pytest.Item:
    file = item.getparent(pytest.Module)
    assert file is not None
    return LeakItem.from_parent(file, name="kmemleak", nodeid=f"{file.nodeid}::kmemleak")


def _module_item(case: CaseItem) -> pytest.Item:
    assert case.parent is not None
    file = case.parent.parent
    assert isinstance(file, KbuildFile)
    node_id = f"{file.nodeid}::{case.module}::unload"
    return ModuleItem.from_parent(file, name=case.module, nodeid=node_id)
