"""The boards of configs/boards/: what QEMU is told of each, and their own device trees."""

from __future__ import annotations

import struct
import subprocess
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import libfdt
import pytest

from harness import config
from harness.board import base, machines, tree
from harness.cell import Cell, Prepared
from harness.config import MIB, Area, KernelTree, Layout
from harness.errors import ConfigError, HarnessError, HostError, UsageError
from harness.guest.qemu import Sockets, argv
from harness.kernel.build import BuiltKernel
from harness.kernel.toolchain import Toolchain
from harness.layout import survey
from harness.layout.ground import Span

BOARDS = {name: config.load_board(name) for name in config.names("boards")}
# Processor, how many, memory in MiB, and the serial ports up to the console's.
MACHINES = {
    "orangepi-pc": ("orangepi-pc", "cortex-a7", 4, 1024, 1),
    "raspi1ap": ("raspi1ap", "arm1176", 1, 512, 1),
    "raspi2b": ("raspi2b", "cortex-a7", 4, 1024, 1),
    "versatilepb": ("versatilepb", "arm926", 1, 256, 1),
    "vexpress-a15": ("vexpress-a15", "cortex-a15", 2, 1024, 1),
    "vexpress-a9": ("vexpress-a9", "cortex-a9", 4, 512, 1),
    "virt": ("virt,dtb-randomness=off", "cortex-a15", 2, 512, 1),
    "virt-lpae": ("virt,dtb-randomness=off", "cortex-a15", 2, 2048, 1),
    "zynq": ("xilinx-zynq-a9", "cortex-a9", 1, 1024, 2),
}


def launch(board):
    """What a cell of the board is started with; nothing of it is made."""
    made = SimpleNamespace(
        zimage=Path("zImage"), blob=Path("board.dtb"), archive=Path("initramfs.cpio")
    )
    kernel = config.load_kernel("6.12", family=board.family)
    cell = Cell(kernel, board, config.load_layout("default"))
    return Prepared(cell, made, made, made, made).launch()


@pytest.mark.parametrize("name", BOARDS)
def test_qemu_is_told_what_the_board_is(name):
    started = launch(BOARDS[name])
    command = argv(started, Sockets(Path("console"), Path("qmp"), Path("log")))
    options = dict(zip(command, (*command[1:], ""), strict=True))
    told = (options["-machine"], options["-cpu"], int(options["-smp"]))
    memory = int(options["-m"].removesuffix("M"))
    assert (*told, memory, command.count("-serial")) == MACHINES[name]
    assert f"console={BOARDS[name].console} " in options["-append"]
    assert options["-dtb"] == "board.dtb"
    assert ("-netdev" in options) == BOARDS[name].has("net")
    assert started.power_off == BOARDS[name].has("poweroff")


def test_nothing_plays_sound():
    command = argv(launch(BOARDS["vexpress-a9"]), Sockets(Path("c"), Path("q"), Path("l")))
    assert dict(pairwise(command))["-audiodev"] == "none,id=sound"


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_s_family_has_a_userland_and_fragments(name):
    family = config.load_family(BOARDS[name].family)
    kernel = config.load_kernel("6.12", family=family.name)
    assert kernel.userland in config.load_recipe().packages
    assert kernel.config[: len(family.config)] == family.config
    assert all(path.is_file() for path in kernel.fragments())


def test_an_unknown_family_is_told_with_the_nearest_one():
    with pytest.raises(UsageError, match="nearest: armv7"):
        config.load_family("armv77")


def test_a_kernel_of_another_family_keeps_its_variant():
    debug = config.load_kernel("6.12", "debug", "armv5")
    assert (debug.family, debug.userland, debug.variant) == ("armv5", "armel", "debug")
    assert debug.config[0] == "arm-v5"
    assert debug.config[-1] == "debug"


@pytest.mark.parametrize("place", ["nxp/imx/board.dts", "board.dts"])
def test_a_tree_is_found_where_this_kernel_has_it(tmp_path, place):
    file = tmp_path / "arch/arm/boot/dts" / place
    file.parent.mkdir(parents=True)
    file.touch()
    assert base.source_of(KernelTree(dts="nxp/imx/board.dts"), tmp_path) == file


def test_a_kernel_without_the_tree_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no device tree nxp/imx/board\.dts") as caught:
        base.source_of(KernelTree(dts="nxp/imx/board.dts"), tmp_path)
    assert caught.value.exit_code == 2


def test_a_tree_is_compiled_with_its_includes_and_labels(tmp_path):
    dts = tmp_path / "arch/arm/boot/dts"
    headers = tmp_path / "scripts/dtc/include-prefixes/dt-bindings"
    for folder in (dts / "vendor", headers):
        folder.mkdir(parents=True)
    (headers / "number.h").write_text("#define NUMBER 7\n")
    (dts / "vendor" / "chip.dtsi").write_text("/ { chip: chip { }; };\n")
    (dts / "vendor" / "board.dts").write_text(
        '/dts-v1/;\n#include <dt-bindings/number.h>\n#include "chip.dtsi"\n'
        "/ { #address-cells = <1>; #size-cells = <1>; };\n&chip { reg = <NUMBER>; };\n"
    )
    vendors = KernelTree(dts="vendor/board.dts")
    blob = libfdt.Fdt(base.compiled(BOARDS["zynq"], vendors, tmp_path))
    assert blob.getprop(blob.path_offset("/chip"), "reg").as_uint32() == 7
    assert blob.getprop(blob.path_offset("/__symbols__"), "chip").as_str() == "/chip"


def blob(tmp_path, source):
    """Compile a tree."""
    file = tmp_path / "tree.dts"
    file.write_text(f"/dts-v1/;\n{source}\n")
    command = ["dtc", "-q", "-O", "dtb", "-o", file.with_suffix(".dtb"), file]
    subprocess.run(command, check=True)
    return file.with_suffix(".dtb").read_bytes()


@pytest.mark.parametrize("cells", [1, 2])
def test_the_memory_is_what_qemu_leaves_the_kernel(tmp_path, cells):
    """The GPU of a Raspberry Pi has the end of it, and the kernel's source a placeholder."""
    source = f"""/ {{ #address-cells = <{cells}>; #size-cells = <{cells}>;
        memory {{ device_type = "memory"; reg = <0 4>; }};
        memory@5 {{ device_type = "memory"; reg = <5 4>; }};
        memory-controller@7 {{ reg = <7 4>; }};
    }};"""
    board = BOARDS["raspi2b"]
    left = base.with_memory(blob(tmp_path, source), board.ram, board.usable)
    assert survey.memory(left, "")[0] == (Span(0, 960 << 20),)
    assert libfdt.Fdt(left).path_offset("/memory-controller@7") > 0


def test_a_board_s_own_areas_and_coherency_are_dropped(tmp_path):
    source = """/ { dma-coherent; reserved-memory {
        linux,cma { compatible = "shared-dma-pool"; reusable; size = <4>; };
        second { compatible = "shared-dma-pool"; reusable; size = <4>; };
        vram@4c000000 { compatible = "shared-dma-pool"; no-map; reg = <0x4c000000 0x800000>; };
    }; };"""
    left = libfdt.Fdt(base.bare(blob(tmp_path, source)))
    assert not left.hasprop(0, "dma-coherent")
    parent = left.path_offset(base.RESERVED)
    assert [left.get_name(node) for node in base.subnodes(left, parent)] == ["vram@4c000000"]


def test_a_tree_that_has_neither_stays_as_it_is(tmp_path):
    bare = blob(tmp_path, '/ { model = "x"; };')
    assert base.bare(bare) == bare


@pytest.mark.parametrize("at", [0x5FC00000, 0x7F000000])
def test_an_area_outside_of_the_board_s_memory_is_refused(at):
    layout = Layout(name="l", description="", area=(Area(name="a", at=at, size="32M"),))
    with pytest.raises(
        ConfigError, match=r"'a@.*' is not in the memory of the board 'vexpress-a9'"
    ):
        tree.check_fits(BOARDS["vexpress-a9"], layout)


def test_an_area_at_the_end_of_the_board_s_memory_fits():
    board = BOARDS["vexpress-a9"]
    end = board.ram + board.memory
    area = Area(name="a", at=end - 32 * MIB, size="32M")
    tree.check_fits(board, Layout(name="l", description="", area=(area,)))


def test_the_machines_that_qemu_lists():
    text = (
        "Supported machines are:\nnone                 empty machine\nvirt     QEMU 7.2 (alias)\n"
    )
    assert machines.parse(text) == {"none", "virt"}


def test_a_machine_that_this_qemu_lacks_is_told(monkeypatch):
    monkeypatch.setattr(machines, "offered", lambda: frozenset({"virt"}))
    machines.require(BOARDS["virt"])
    with pytest.raises(HostError, match="no machine 'raspi2b', which the board 'raspi2b' is"):
        machines.require(BOARDS["raspi2b"])


def arm_elf(sections: int, at: int) -> bytes:
    """The header of a 32-bit ARM program (ET_EXEC, EM_ARM) that says where its sections are."""
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    numbers = (2, 40, 1, 0, 0, at, 0, 52, 32, 0, 40, sections, 0)
    return ident + struct.pack("<HHIIIIIHHHHHH", *numbers)


@pytest.mark.parametrize(
    "contents",
    [b"", b"\x7fELF\x01\x01\x01", arm_elf(5, at=4096), arm_elf(0, at=0)],
    ids=["empty", "no-header", "cut-short", "no-symbols"],
)
def test_a_damaged_kernel_is_named_with_what_to_do(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "vmlinux").write_bytes(contents)
    kernel = BuiltKernel("key", "6.12", tmp_path, tmp_path, "", Toolchain("", "", "armhf"))
    with pytest.raises(HarnessError, match="remove its folder") as error:
        survey.kernel_facts(kernel)
    assert error.value.where == str(tmp_path / "vmlinux")
