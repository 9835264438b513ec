"""What the cases of this folder share: the helper, the default area, the kernel's log."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

import pytest
from booted import RAM, Facts, Scenario, ram, read
from kernel_log import marked
from taking import Own, need_room

from harness.boots import Boots
from harness.cell import Prepared
from harness.cma.areas import LiveArea, survey
from harness.cma.helper import DEFAULT_DEVICE, Helper
from harness.errors import GuestError
from harness.guest.guest import Guest
from harness.layout.cmdline import areas_of, default_area

_SECONDS = 30.0
_KEPT = pytest.StashKey[bool]()
# Free what is left of every device; a buffer that stays (mapped, or lost) ends this with status 1.
_EMPTY = """for device in /dev/cma_test*; do
    while cat $device 2>/dev/null; do :; done
    cma-ctl -d $device version | grep '"live": 0[,}]' >/dev/null || exit 1
done"""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Let the cases of this folder share a guest: each is audited, so what it leaves is told."""
    item.add_marker(pytest.mark.shares_guest)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Note whether the next test, if it is one of this folder, needs the module too."""
    near = nextitem is not None and nextitem.path.parent == item.path.parent
    item.stash[_KEPT] = near and "helper" in getattr(nextitem, "fixturenames", ())


@pytest.fixture
def helper(
    request: pytest.FixtureRequest, guest: Guest, cell: Prepared
) -> Generator[Helper, None, None]:
    """The default device, without buffers.

    The plugin's fixture of this name loads the module for each test. That is half a second for
    each, most of it RCU's grace periods, so here tests that follow each other share one load; and
    the console answers a short command sooner than an ssh session starts.
    """
    need_room(cell.cell.layout, default_area(cell.cell.layout))
    run = guest.console.run
    load = "[ -e /dev/cma_test ] || insmod /lib/cma/cma_test.ko"
    run(load, timeout=_SECONDS).checked("loading cma_test")
    yield Helper(guest.console)
    if request.node.stash[_KEPT]:
        run(_EMPTY, timeout=_SECONDS).checked("emptying the devices")
    else:
        run("rmmod cma_test", timeout=_SECONDS).checked("unloading cma_test")


@pytest.fixture
def area(guest: Guest, cell: Prepared) -> LiveArea:
    """The default area as it is before the test, which is where /dev/cma_test allocates."""
    name = default_area(cell.cell.layout)
    if name is None:
        pytest.skip(f"layout {cell.cell.layout.name!r} has no default area")
    return survey(guest.console).area(name)


@pytest.fixture
def some_area(cell: Prepared) -> None:
    """Skip where the kernel has no area at all."""
    if not areas_of(cell.cell.layout):
        pytest.skip(f"layout {cell.cell.layout.name!r} has no area")


@pytest.fixture
def used(guest: Guest, area: LiveArea) -> Callable[[], int]:
    """Count the pages in use in the default area, now."""
    return lambda: survey(guest.console).area(area.name).used


@pytest.fixture
def kernel_log(guest: Guest) -> Callable[[], tuple[str, ...]]:
    """Read the kernel's messages since this fixture was made."""
    return marked(guest)


@pytest.fixture(scope="session")
def seen(boots: Boots, cell: Prepared) -> Callable[[Scenario], Facts]:
    """Boot a scenario, once in a session, and tell what it made of its areas."""
    if ram(cell.tree.blob.read_bytes()) != RAM:
        pytest.skip(f"the scenarios' addresses are for memory at {RAM.start:#x}-{RAM.stop:#x}")
    known: dict[Scenario, Facts | GuestError] = {}

    def facts(scenario: Scenario) -> Facts:
        if scenario not in known:
            known[scenario] = _look(boots, scenario)
        found = known[scenario]
        if isinstance(found, GuestError):
            raise found
        boots.cite(found.console)
        return found

    return facts


def _look(boots: Boots, scenario: Scenario) -> Facts | GuestError:
    try:
        with boots.boot(scenario.layout, scenario.append, edit=scenario.edit) as guest:
            return read(guest, boots.log_of(guest))
    except GuestError as error:
        return error


@pytest.fixture
def own(guest: Guest, cell: Prepared, helper: Helper) -> Own:
    """The first area that a device has for itself, else the default one; empty, with its device."""
    layout = cell.cell.layout
    private = next((area.node for area in layout.area if area.device), None)
    name = private or default_area(layout)
    if name is None:
        pytest.skip(f"layout {layout.name!r} has no area that a device can use")
    device = f"{DEFAULT_DEVICE}-{private}" if private else DEFAULT_DEVICE
    need_room(layout, name)
    area = survey(guest.console).area(name)
    return Own(guest.console, Helper(guest.console, device=device), device, area)


# A block device of zram's, whose number comes out; 96 MiB, of which only what is used takes memory.
_ZRAM = """cd /sys/class/zram-control && n=$(cat hot_add) && echo 96M >/sys/block/zram$n/disksize"""
_NO_ZRAM = "echo 1 >/sys/block/zram{0}/reset; echo {0} >/sys/class/zram-control/hot_remove"


def _zram(guest: Guest, use: str) -> str:
    """Make a zram device, put it to use ($n is its number), and return that number."""
    if guest.console.run("[ -e /sys/class/zram-control ]", _SECONDS).status:
        pytest.skip("the kernel has no zram (CONFIG_ZRAM)")
    command = f"{{ {_ZRAM} && {use}; }} >/dev/null && echo $n"
    return guest.console.run(command, _SECONDS).checked("making a zram device").strip()


@pytest.fixture
def disk_file(guest: Guest) -> Iterator[str]:
    """The path of a file that may be made on an ext4 file system of its own, with a disk below."""
    use = "mke2fs -b 4096 -F $d && mkdir -p /tmp/disk && mount -t ext4 $d /tmp/disk"
    number = _zram(guest, f"d=/dev/zram$n && {use}")
    yield "/tmp/disk/file"
    undo = f"umount /tmp/disk && {_NO_ZRAM.format(number)}"
    guest.console.run(undo, _SECONDS).checked("taking the disk away")


@pytest.fixture
def swap_space(guest: Guest) -> Iterator[None]:
    """Swap space while the test runs."""
    number = _zram(guest, "mkswap /dev/zram$n && swapon /dev/zram$n")
    yield
    undo = f"swapoff /dev/zram{number} && {_NO_ZRAM.format(number)}"
    guest.console.run(undo, _SECONDS).checked("taking the swap space away")
