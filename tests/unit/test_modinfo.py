"""What a .ko says of itself: C files with sections like a module's are built for the test."""

from __future__ import annotations

import shutil

import pytest
from test_kunit_elf import GCC, build

from harness.errors import HarnessError
from harness.kernel.modinfo import ModuleInfo, module_info, shares_guest

pytestmark = pytest.mark.skipif(not shutil.which(GCC), reason=f"{GCC} is not installed")

MODULE = """
static const char info[] __attribute__((used, section(".modinfo"))) =
	"license=Dual BSD/GPL\\0parmtype=size:int\\0parm=size:of it\\0parmtype=how:charp\\0"
	"import_ns=DMA_BUF\\0depends=b,a\\0name=cma_thing\\0vermagic=6.12.117 SMP ARMv7 ";
struct { char it[192]; } this __attribute__((used, section(".gnu.linkonce.this_module")));
int __ksymtab_offered;
extern int strong(void);
extern int weak(void) __attribute__((weak));
int init_module(void) { return strong() + (weak ? weak() : 0); }
"""


def test_all_that_a_module_says(tmp_path):
    assert module_info(build(tmp_path, MODULE)) == ModuleInfo(
        name="cma_thing",
        vermagic="6.12.117 SMP ARMv7",
        license="Dual BSD/GPL",
        depends=("b", "a"),
        parameters=("size", "how"),
        namespaces=("DMA_BUF",),
        undefined=("strong",),
        exports=("offered",),
        struct_size=192,
        lasting=True,
    )


def test_one_with_an_exit_function_does_not_last(tmp_path):
    assert not module_info(build(tmp_path, MODULE + "void cleanup_module(void) { }")).lasting


def test_one_without_an_init_function_does_not_last_either(tmp_path):
    named = MODULE.replace("init_module", "something")
    assert not module_info(build(tmp_path, named)).lasting


@pytest.mark.parametrize(
    ("said", "shares"),
    [
        ("cma_harness=shares_guest", True),
        ("cma_harness=shares", False),
        ("name=shares_guest", False),
    ],
)
def test_whether_its_cases_share_a_guest(tmp_path, said, shares):
    ko = build(tmp_path, MODULE.replace("name=cma_thing", said))
    assert shares_guest(ko) == shares == module_info(ko).shares_guest


@pytest.mark.parametrize(
    ("license", "gpl"), [("GPL", True), ("Dual BSD/GPL", True), ("MIT", False), ("", False)]
)
def test_which_licenses_are_the_gpl_s(license, gpl):
    assert ModuleInfo("m", "", license=license).gpl == gpl


def test_an_object_file_is_no_module(tmp_path):
    with pytest.raises(HarnessError, match="not a kernel module"):
        module_info(build(tmp_path, "int x;"))


def test_a_program_is_no_module(tmp_path):
    program = build(tmp_path, MODULE + "int strong(void) { return 0; }", "-fPIC")
    data = bytearray(program.read_bytes())
    data[16] = 2  # e_type: ET_EXEC
    program.write_bytes(data)
    with pytest.raises(HarnessError, match="not a kernel module"):
        module_info(program)
