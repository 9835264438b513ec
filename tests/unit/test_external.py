"""A user's own modules before any boot: what is asked for, what fits, what a compiler said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config import load_departed
from harness.errors import UsageError
from harness.kernel import external, loadable
from harness.kernel.diagnostics import told
from harness.kernel.exports import Export, exports, why_missing
from harness.kernel.external import External, Wanted
from harness.kernel.modinfo import ModuleInfo

OURS = ModuleInfo(
    "cma_test", "6.12.117 SMP mod_unload ARMv7 thumb2 p2v8", license="GPL", struct_size=768
)


@pytest.mark.parametrize("name", ["m.c", "m.ko", "with:colon.c"])
def test_parameters_stand_behind_a_colon(tmp_path, name):
    (tmp_path / name).touch()
    assert Wanted.parse(f"{tmp_path / name}") == Wanted(tmp_path / name)
    if ":" not in name:
        both = Wanted.parse(f"{tmp_path / name}:size=4M how=leaks")
        assert both == Wanted(tmp_path / name, ("size=4M", "how=leaks"))


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        ("nosuch.c", "no such file"),
        ("text.txt", r"neither a \.c file, nor a \.ko"),
        ("Kbuild", "neither a"),
        ("folder", "neither Kbuild nor Makefile"),
    ],
)
def test_what_cannot_be_a_module(tmp_path, path, complaint):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.c").touch()
    for name in ("text.txt", "Kbuild"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=complaint) as error:
        Wanted.parse(str(tmp_path / path))
    assert error.value.next_step


def misfits(**changes: object) -> str:
    return "\n".join(loadable._misfits(replace(OURS, **changes), OURS))


def test_a_module_that_fits():
    assert misfits() == ""


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"vermagic": "6.1.0 SMP mod_unload ARMv7 thumb2 p2v8"}, "for linux 6.1.0, not 6.12.117"),
        ({"vermagic": "6.12.117 mod_unload ARMv7 thumb2 p2v8"}, "without SMP (CONFIG_SMP)"),
        (
            {"vermagic": "6.12.117 SMP preempt mod_unload ARMv7 thumb2 p2v8"},
            "with preempt (CONFIG_PREEMPT)",
        ),
        ({"vermagic": "6.12.117 SMP mod_unload ARMv6 thumb2 p2v8"}, "with ARMv6; without ARMv7"),
        ({"vermagic": ""}, "for linux unknown"),
        ({"struct_size": 640}, "640 bytes, this kernel's 768"),
        ({"struct_size": 0}, "has no .gnu.linkonce.this_module"),
        ({"license": ""}, "has no MODULE_LICENSE()"),
    ],
)
def test_a_module_that_does_not_fit(changes, complaint):
    assert complaint in misfits(**changes)


def test_parameters_that_no_module_has():
    infos = [replace(OURS, parameters=("how", "size"))]
    loadable.require_parameters(["how=leaks"], infos, where="m.c")
    with pytest.raises(UsageError, match="nearest: how"):
        loadable.require_parameters(["hwo=leaks"], infos, where="m.c")
    with pytest.raises(UsageError, match="no NAME=VALUE"):
        loadable.require_parameters(["leaks"], infos, where="m.c")


def test_symbols_are_named_one_by_one(tmp_path):
    known = {
        "printk": Export("vmlinux"),
        "gpl_only": Export("vmlinux", gpl=True),
        "spaced": Export("vmlinux", namespace="DMA_BUF"),
    }
    info = ModuleInfo("m", "", license="MIT", undefined=("gpl_only", "inner", "printk", "spaced"))
    kernel = fake_kernel(tmp_path)
    assert list(loadable._unresolved(info, known, kernel)) == [
        "needs inner, which the kernel has but does not export to modules",
        "needs gpl_only, which is exported to GPL modules only, and its license is 'MIT'",
        "needs spaced: MODULE_IMPORT_NS(DMA_BUF) is missing",
    ]
    fits = replace(info, license="GPL", undefined=("gpl_only", "spaced"), namespaces=("DMA_BUF",))
    assert list(loadable._unresolved(fits, known, kernel)) == []


def fake_kernel(path: Path) -> SimpleNamespace:
    """A kernel whose symbols and source are small enough to be seen through."""
    (path / "System.map").write_text("c0008000 T inner\nc0008010 t kallsyms_lookup_name\n")
    hid = path / "tree" / "drivers" / "hid"
    hid.mkdir(parents=True)
    (hid / "hid-core.c").write_text("int hid_add(void)\n{\n}\nEXPORT_SYMBOL_GPL(hid_add);\n")
    (hid / "Makefile").write_text("hid-y := a.o\nobj-$(CONFIG_HID)\t\t+= hid-core.o\n")
    return SimpleNamespace(path=path, source=path / "tree")


def test_why_a_symbol_is_missing(tmp_path):
    asked = ("hid_add", "inner", "kallsyms_lookup_name", "nobody_has_this")
    told = why_missing(asked, fake_kernel(tmp_path))
    assert told["hid_add"] == "drivers/hid/hid-core.c exports, which CONFIG_HID builds"
    assert told["inner"] == "the kernel has but does not export to modules"
    assert told["kallsyms_lookup_name"].startswith(f"{told['inner']}: not exported since 5.7 (")
    assert told["nobody_has_this"] == "no file of this kernel's source exports"


def test_module_symvers(tmp_path):
    symvers = tmp_path / "Module.symvers"
    symvers.write_text(
        "0x00000000\tprintk\tvmlinux\tEXPORT_SYMBOL\t\n"
        "0x12345678\tinner\tdrivers/a/b\tEXPORT_SYMBOL_GPL\tDMA_BUF\n"
    )
    assert exports(symvers) == {
        "printk": Export("vmlinux"),
        "inner": Export("drivers/a/b", gpl=True, namespace="DMA_BUF"),
    }


def module(name: str, *depends: str) -> External:
    info = ModuleInfo(name, "", depends=depends)
    return External(origin=Path(name), ko=Path(), stripped=Path(), info=info)


def test_modules_are_put_behind_those_that_they_need():
    given = [module("c", "b"), module("x"), module("b", "a"), module("a", "not_ours")]
    ordered = external._in_order(given)
    assert [(each.name, each.needs) for each in ordered] == [
        ("a", ()),
        ("b", ("a",)),
        ("c", ("a", "b")),
        ("x", ()),
    ]


def test_two_modules_of_one_name():
    with pytest.raises(UsageError, match="two modules are called a"):
        external._in_order([module("a"), module("a")])


OUTPUT = """\
make: Entering directory '/k'
  CC [M]  /u/m.o
/u/m.c:3:1: warning: return type defaults to 'int'
    3 | f() { }
/u/m.c: In function 'init':
/u/m.c:8:16: error: implicit declaration of function 'ioremap_nocache'
    8 |         return ioremap_nocache(0, 1);
      |                ^~~~~~~~~~~~~~~
make[2]: *** [Makefile.build:243: /u/m.o] Error 1
"""


def test_of_a_compiler_s_words_the_errors_are_told():
    lines = OUTPUT.splitlines()
    assert told(lines, {"ioremap_nocache": "gone since 5.6", "remap": "no"}).splitlines() == [
        *lines[4:8],
        "ioremap_nocache is gone since 5.6",
    ]


def test_where_nothing_looks_like_an_error_the_end_is_told():
    assert told(["one", "two"], {}) == "one\ntwo"


def test_many_errors_are_cut_short():
    lines = [f"m.c:{n}:1: error: no" for n in range(100)]
    text = told(lines, {})
    assert len(text.splitlines()) == 41
    assert text.endswith("… and 60 more lines")


def test_what_has_departed_is_told_with_its_commit():
    assert load_departed()["vm_flags"] == (
        "read-only since 6.3 (bc292ab00f6c), use vm_flags_set() and vm_flags_clear()"
    )
