"""Symbols to lines, on a tiny kernel (ET_EXEC) and a tiny module (ET_REL) built for the test.

Both are built as the kernel is with O=: in a folder of their own, the sources named by absolute
paths. The places that are looked up are labels which the C sources define in inline assembly.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.faults import extract
from harness.kernel.elf import code_symbols, open_elf
from harness.kernel.symbols import Location, Symbols, entries

GCC = "arm-linux-gnueabihf-gcc"

pytestmark = pytest.mark.skipif(not shutil.which(GCC), reason=f"{GCC} is not installed")

MAIN = """\
extern int cma_alloc(volatile int *p);
int start_kernel(volatile int *p)
{
	return cma_alloc(p) + 1;
}
void _start(void) { }
"""

CMA = """\
#include "cma.h"
static int __attribute__((noinline, noclone)) twin(volatile int *p)
{
	asm volatile(".globl in_first_twin\\nin_first_twin: nop");
	return *p + 7;
}
int __attribute__((noinline, noclone)) cma_alloc(volatile int *p)
{
	int first = twin(p);
	asm volatile(".globl after_twin\\nafter_twin:" : "+r"(first));
	asm volatile(".globl in_cma\\nin_cma: nop");
	return first + header(p);
}
"""

CMA_H = """\
static inline __attribute__((always_inline)) int header(volatile int *p)
{
	asm volatile(".globl in_header\\nin_header: nop");
	return *p;
}
"""

OTHER = """\
static int __attribute__((noinline, noclone)) twin(volatile int *p)
{
	*p = 1;
	*p = 2;
	*p = 3;
	asm volatile(".globl in_other_twin\\nin_other_twin: nop");
	return *p * 5;
}
int other(volatile int *p)
{
	return twin(p) + 2;
}
"""

MODULE = """\
#define IN(name) __attribute__((noinline, noclone, section(name)))
int __attribute__((noinline, noclone)) crash_case(volatile int *p)
{
	asm volatile(".globl crash_here\\ncrash_here: nop");
	return *p;
}
IN(".init.text") int begin(volatile int *p)
{
	int value = crash_case(p);
	asm volatile(".globl after_call\\nafter_call:" : "+r"(value));
	return value + 1;
}
IN(".exit.text") int end(volatile int *p)
{
	asm volatile(".globl in_end\\nin_end: nop");
	return *p - 1;
}
IN(".text.unlikely") int rare(volatile int *p)
{
	asm volatile(".globl in_rare\\nin_rare: nop");
	return *p - 2;
}
"""


@dataclass(frozen=True)
class Built:
    """A kernel and a module, and where their labels are: label -> (function, offset)."""

    vmlinux: Path
    module: Path
    labels: Mapping[str, tuple[str, int]]
    sizes: Mapping[str, list[int]]

    def symbols(self) -> Symbols:
        return Symbols(self.vmlinux, {"broken-case": self.module})


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)


def labels(path: Path) -> dict[str, tuple[str, int]]:
    code = code_symbols(open_elf(path))
    functions = sorted((at, name) for name, each in code.items() for at, size in each if size)
    return {
        name: (function, at - start)
        for name, [(at, size), *_] in code.items()
        if not size
        for start, function in [max(each for each in functions if each[0] <= at)]
    }


@pytest.fixture(
    scope="module",
    params=[
        ("-gdwarf-4", "-marm"),
        ("-gdwarf-5", "-Wa,-gdwarf-5", "-marm"),
        ("-gdwarf-4", "-mthumb"),
    ],
    ids=" ".join,
)
def built(request, tmp_path_factory):
    top = tmp_path_factory.mktemp("tree")
    for name, text in {
        "src/init/main.c": MAIN,
        "src/mm/cma.c": CMA,
        "src/mm/cma.h": CMA_H,
        "src/mm/other.c": OTHER,
        "module/crash.c": MODULE,
    }.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    out = top / "build"
    out.mkdir()
    flags = [
        *request.param,
        "-march=armv7-a",
        "-mfloat-abi=soft",
        "-O1",
        "-ffreestanding",
        "-fno-pic",
        "-no-pie",
    ]
    sources = [top / "src" / name for name in ("init/main.c", "mm/cma.c", "mm/other.c")]
    run(GCC, *flags, "-nostdlib", "-static", *sources, "-o", "vmlinux", cwd=out)
    run(GCC, *flags, "-c", top / "module/crash.c", "-o", "crash.ko", cwd=out)
    code = code_symbols(open_elf(out / "vmlinux"))
    return Built(
        out / "vmlinux",
        out / "crash.ko",
        labels(out / "vmlinux") | labels(out / "crash.ko"),
        {name: sorted(size for _, size in each) for name, each in code.items()},
    )


def line_of(source: str, text: str) -> int:
    return next(number for number, line in enumerate(source.split("\n"), 1) if text in line)


@pytest.mark.parametrize(
    ("label", "function", "file", "source"),
    [
        ("in_cma", "cma_alloc", "mm/cma.c", CMA),
        ("in_header", "cma_alloc", "mm/cma.h", CMA_H),
        ("in_other_twin", "twin", "mm/other.c", OTHER),
    ],
)
def test_a_place_in_the_kernel(built, label, function, file, source):
    name, offset = built.labels[label]
    assert name == function
    size = built.sizes[name][-1]
    location = built.symbols().locate(name, offset, None, size=size)
    assert location == Location(function, file, line_of(source, f"{label}:"))


def test_where_functions_begin_is_known_of_those_that_stand_at_one_place(built):
    found = entries(built.vmlinux, {"cma_alloc", "twin", "header"})
    ((address, _),) = code_symbols(open_elf(built.vmlinux))["cma_alloc"]
    assert found == {"cma_alloc": address}


@pytest.mark.parametrize(
    ("label", "function"), [("crash_here", "crash_case"), ("in_end", "end"), ("in_rare", "rare")]
)
def test_a_place_in_each_section_of_a_module(built, label, function):
    # All of these sections begin at 0 in the file: a wrong one would give another's lines.
    name, offset = built.labels[label]
    location = built.symbols().locate(name, offset, "broken_case")
    assert location == Location(function, "crash.c", line_of(MODULE, f"{label}:"))


def test_a_return_address_is_in_the_line_of_the_call(built):
    name, offset = built.labels["after_call"]
    call = line_of(MODULE, "crash_case(p);")
    with built.symbols() as symbols:
        at_call = symbols.locate(name, offset, "broken_case", returns=True)
        odd = symbols.locate(name, offset + 1, "broken_case", returns=True)  # the Thumb bit
        after = symbols.locate(name, offset, "broken_case")
    assert at_call == odd == Location("begin", "crash.c", call)
    assert after is not None
    assert after.line > call


def test_the_size_decides_between_functions_of_one_name(built):
    small, large = built.sizes["twin"]
    assert small + 2 < large
    _, in_first = built.labels["in_first_twin"]
    _, in_other = built.labels["in_other_twin"]
    first = f"mm/cma.c:{line_of(CMA, 'in_first_twin:')}"
    other = f"mm/other.c:{line_of(OTHER, 'in_other_twin:')}"
    with built.symbols() as symbols:
        assert symbols.locate("twin", 0, None) is None
        assert str(symbols.locate("twin", in_first, None, size=small)) == first
        # The kernel prints the distance to the next symbol, padding included.
        assert str(symbols.locate("twin", in_first, None, size=small + 2)) == first
        assert str(symbols.locate("twin", in_other, None, size=large)) == other
        assert symbols.locate("twin", 0, None, size=small - 1) is None


def test_what_is_not_known_has_no_location(built):
    with built.symbols() as symbols:
        assert symbols.locate("nobody", 0, None) is None
        assert symbols.locate("crash_case", 0, "unknown_module") is None
        assert symbols.locate("_start", 0x100000, None) is None
        assert symbols.symbolise("nobody+0x1/0x2 and x+0x1/0x2 [gone]") == (
            "nobody+0x1/0x2 and x+0x1/0x2 [gone]"
        )


def test_symbolise_in_every_form_of_a_back_trace(built):
    _, after = built.labels["after_call"]
    _, here = built.labels["crash_here"]
    call = f"(crash.c:{line_of(MODULE, 'crash_case(p);')})"
    exact = f"(crash.c:{line_of(MODULE, 'crash_here:')})"
    place = f"begin+{after:#x}/0x40 [broken_case]"
    crash = f"crash_case+{here:#x}/0x40 [broken_case]"
    lines = {
        f"PC is at {crash}": exact,
        f"LR is at {place}": call,
        f" crash_case [broken_case] from {place}": call,
        f"[<bf000000>] (crash_case [broken_case]) from [<bf000020>] ({place})": call,
        # with a build id (%pSb, since 5.15)
        f"LR is at begin+{after:#x}/0x40 [broken_case 0123456789abcdef]": call,
        # an exception's frame is the instruction itself, not a call
        f" __dabt_svc from {crash}": exact,
        f"[<c0100a4c>] (__dabt_svc) from [<bf000020>] ({crash})": exact,
    }
    with built.symbols() as symbols:
        for line, location in lines.items():
            text = symbols.symbolise(line)
            assert text == (
                f"{line[:-1]} {location})" if line.endswith(")") else f"{line} {location}"
            )
            assert symbols.symbolise(text) == text


def test_a_place_that_has_its_line_gets_no_second_one(built):
    with built.symbols() as symbols:
        for place in ("start_kernel+0x4/0x400", "crash_case+0x4/0x400 [broken_case]"):
            once = symbols.symbolise(place)
            assert once.startswith(f"{place} (")
            assert symbols.symbolise(once) == once


def test_headline_names_the_program_counters_place(built):
    _, here = built.labels["crash_here"]
    (fault,) = extract(
        b"Unable to handle kernel NULL pointer dereference at virtual address 00000000\n"
        b"Internal error: Oops: 5 [#1] SMP ARM\n"
        + f"PC is at crash_case+{here:#x}/0x40 [broken_case]\n".encode()
        + b"LR is at start_kernel+0x4/0x40\n"
    )
    line = line_of(MODULE, "crash_here:")
    assert built.symbols().headline(fault) == (
        "CRASH: Unable to handle kernel NULL pointer dereference at virtual address 00000000: "
        f"in crash_case (crash.c:{line}) of broken_case.ko"
    )


def test_headline_skips_the_reporting_and_prefers_the_module(built):
    _, after = built.labels["after_call"]
    (fault,) = extract(
        b"BUG: sleeping function called from invalid context at mm/cma.c:1\n"
        b" dump_stack_lvl from __might_resched+0x1/0x2\n"
        b" __might_resched from start_kernel+0x4/0x40\n"
        + f" start_kernel from begin+{after:#x}/0x40 [broken_case]\n".encode()
    )
    assert (
        built.symbols()
        .headline(fault)
        .endswith(f": in begin (crash.c:{line_of(MODULE, 'crash_case(p);')}) of broken_case.ko")
    )


def test_headline_without_lines_says_the_symbol(built):
    (fault,) = extract(b"kernel BUG at a.c:1!\nPC is at gone+0x8/0x40 [lost]\n")
    assert built.symbols().headline(fault) == (
        "CRASH: kernel BUG at a.c:1!: in gone+0x8 of lost.ko"
    )
    (bare,) = extract(b"kernel BUG at a.c:1!\n")
    assert built.symbols().headline(bare) == "CRASH: kernel BUG at a.c:1!"


def test_a_file_without_debug_information_has_no_lines(built, tmp_path):
    stripped = tmp_path / "vmlinux"
    run("arm-linux-gnueabihf-strip", "-g", "-o", stripped, built.vmlinux, cwd=tmp_path)
    assert Symbols(stripped, {}).locate("start_kernel", 0, None) is None


def test_a_file_that_is_no_kernel_is_an_error(built, tmp_path):
    damaged = tmp_path / "vmlinux"
    damaged.write_bytes(built.vmlinux.read_bytes()[:600])
    for path, what in ((damaged, "damaged"), (tmp_path / "none", "No such file")):
        with pytest.raises(HarnessError, match=what) as error:
            Symbols(path, {}).locate("start_kernel", 0, None)
        assert error.value.where == str(path)


def test_nothing_is_opened_before_it_is_needed(built, tmp_path):
    symbols = Symbols(tmp_path / "none", {"broken_case": tmp_path / "none.ko"})
    assert symbols.symbolise("no place in here") == "no place in here"
