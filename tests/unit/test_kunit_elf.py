"""Suites out of a .ko: C files that declare structures like KUnit's are built for the test."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.kernel.kunit_elf import CaseSpec, Suite, chooses_cases, read_suites
from harness.kernel.modinfo import module_info

GCC = "arm-linux-gnueabihf-gcc"

pytestmark = pytest.mark.skipif(not shutil.which(GCC), reason=f"{GCC} is not installed")

# include/kunit/test.h of 6.12, what this project reads of it
V6_12 = """\
struct kunit;
struct kunit_case {
	void (*run_case)(struct kunit *test);
	const char *name;
	const void *(*generate_params)(const void *prev, char *desc);
	int attr, status;
	char *module_name;
	void *log;
};
struct kunit_suite {
	const char name[256];
	int (*suite_init)(struct kunit_suite *suite);
	void (*suite_exit)(struct kunit_suite *suite);
	int (*init)(struct kunit *test);
	void (*exit)(struct kunit *test);
	struct kunit_case *test_cases;
	int attr;
	char status_comment[256];
	void *debugfs, *log;
	int suite_init_err;
	_Bool is_init;
};
#define REGISTER(...) static struct kunit_suite *array[] \\
	__attribute__((used, section(".kunit_test_suites"))) = { __VA_ARGS__ }
"""

# 5.10: no generate_params, and an array behind each pointer (both of test.h)
V5_10 = """\
struct kunit;
struct kunit_case {
	void (*run_case)(struct kunit *test);
	const char *name;
	_Bool success;
	char *log;
};
struct kunit_suite {
	const char name[256];
	int (*init)(struct kunit *test);
	void (*exit)(struct kunit *test);
	struct kunit_case *test_cases;
	void *debugfs;
	char *log;
};
#define REGISTER(...) static struct kunit_suite *array[] = { __VA_ARGS__, 0 }; \\
	static struct kunit_suite **suites \\
	__attribute__((used, section(".kunit_test_suites"))) = array
"""

# a layout no kernel has had, to show that nothing is built in
ODD = """\
struct kunit;
struct kunit_case {
	long long first;
	const void *(*generate_params)(const void *prev, char *desc);
	const char *name;
	void (*run_case)(struct kunit *test);
	char last[3];
};
struct kunit_suite {
	struct kunit_case *test_cases;
	const char *name;
};
#define REGISTER(...) static struct kunit_suite *array[] \\
	__attribute__((used, section(".kunit_test_suites"))) = { __VA_ARGS__ }
"""

CASES = """
static void plain(struct kunit *test) { }
extern void imported(struct kunit *test);
static struct kunit_case first_cases[] = {
	{ .run_case = plain, .name = "plain" },
	{ .run_case = imported, .name = "imported" },
	{}
};
static struct kunit_case second_cases[] = { { .run_case = plain, .name = "plain" }, {} };
static struct kunit_case no_cases[] = { {} };
static struct kunit_suite first = { .name = "first", .test_cases = first_cases };
static struct kunit_suite second = { .name = "second", .test_cases = second_cases };
static struct kunit_suite empty = { .name = "empty", .test_cases = no_cases };
REGISTER(&second, &first, &empty);
"""

PARAMETERS = """
static void plain(struct kunit *test) { }
static const void *own(const void *prev, char *desc) { return 0; }
extern const void *kernels(const void *prev, char *desc);
static struct kunit_case cases[] = {
	{ .run_case = plain, .name = "once" },
	{ .run_case = plain, .name = "own", .generate_params = own },
	{ .run_case = plain, .name = "kernels", .generate_params = kernels },
	{}
};
static struct kunit_suite suite = { .name = "parameters", .test_cases = cases };
REGISTER(&suite);
"""

ONCE = CaseSpec("plain", parameterised=False)


def build(path, source, *flags):
    (path / "x.c").write_text(source)
    command = [
        GCC,
        "-march=armv7-a",
        "-mfloat-abi=soft",
        "-ffreestanding",
        "-fno-pic",
        "-c",
        *flags,
        "x.c",
    ]
    subprocess.run([*command, "-o", "x.ko"], cwd=path, check=True, capture_output=True)
    return path / "x.ko"


@pytest.mark.parametrize("flags", [("-gdwarf-4",), ("-gdwarf-5",), ("-gdwarf-4", "-mthumb")])
@pytest.mark.parametrize("header", [V6_12, V5_10, ODD], ids=["6.12", "5.10", "odd"])
def test_suites_and_cases(tmp_path, header, flags):
    ko = build(tmp_path, header + CASES, *flags)
    assert read_suites(ko) == (
        Suite("second", (ONCE,)),
        Suite("first", (ONCE, CaseSpec("imported", parameterised=False))),
        Suite("empty", ()),
    )


@pytest.mark.parametrize("header", [V6_12, ODD], ids=["6.12", "odd"])
def test_parameterised_cases(tmp_path, header):
    # "kernels" is exported by the kernel: in the file its address is 0, as of one not set.
    ko = build(tmp_path, header + PARAMETERS, "-gdwarf-4")
    assert [(case.name, case.parameterised) for case in read_suites(ko)[0].cases] == [
        ("once", False),
        ("own", True),
        ("kernels", True),
    ]


def test_init_suites_come_after_the_others(tmp_path):
    # kunit_test_init_section_suites(), since 6.8
    init = """
static struct kunit_suite at_init = { .name = "at_init", .test_cases = no_cases };
static struct kunit_suite *init_array[]
	__attribute__((used, section(".kunit_init_test_suites"))) = { &at_init };
"""
    ko = build(tmp_path, V6_12 + CASES + init, "-gdwarf-4")
    assert [suite.name for suite in read_suites(ko)] == ["second", "first", "empty", "at_init"]


def test_structures_of_a_later_unit_are_found(tmp_path):
    build(tmp_path, "int unrelated;", "-gdwarf-4").rename(tmp_path / "a.o")
    build(tmp_path, V6_12 + PARAMETERS, "-gdwarf-4").rename(tmp_path / "b.o")
    link = ["arm-linux-gnueabihf-ld", "-r", "a.o", "b.o", "-o", "both.ko"]
    subprocess.run(link, cwd=tmp_path, check=True)
    assert [suite.name for suite in read_suites(tmp_path / "both.ko")] == ["parameters"]


def test_a_module_without_suites(tmp_path):
    assert read_suites(build(tmp_path, "int x;")) == ()


def test_suites_without_debug_information(tmp_path):
    ko = build(tmp_path, V6_12 + CASES, "-g0")
    with pytest.raises(HarnessError, match="no debug information") as error:
        read_suites(ko)
    assert "CONFIG_DEBUG_INFO" in error.value.next_step
    assert error.value.where == str(ko)


def test_another_machines_file(tmp_path):
    ko = build(tmp_path, V6_12 + CASES, "-g")
    data = bytearray(ko.read_bytes())
    data[18] = 62  # e_machine: EM_X86_64
    ko.write_bytes(data)
    with pytest.raises(HarnessError, match="another machine"):
        read_suites(ko)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x7fELF", b"\x7fELF" + bytes(60)])
def test_a_file_that_is_no_elf(tmp_path, data):
    ko = tmp_path / "x.ko"
    ko.write_bytes(data)
    for read in (read_suites, module_info):
        with pytest.raises(HarnessError) as error:
            read(ko)
        assert error.value.where == str(ko)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(HarnessError, match="No such file"):
        read_suites(tmp_path / "none.ko")


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    path = tmp_path_factory.mktemp("sound")
    return build(path, V6_12 + PARAMETERS + MODINFO, "-gdwarf-4").read_bytes()


MODINFO = """
static const char info[] __attribute__((used, section(".modinfo"))) =
	"license=GPL\\0depends=b,a\\0name=cma_thing\\0vermagic=6.12.117 SMP ARMv7 ";
extern int strong(void);
extern int weak(void) __attribute__((weak));
int use(void) { return strong() + (weak ? weak() : 0); }
"""


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_is_an_error_or_is_read(tmp_path, sound, data):
    """No damage may end in anything but a HarnessError."""
    image = bytearray(sound[: data.draw(st.integers(0, len(sound)))])
    for _ in range(data.draw(st.integers(0, 8))):
        if image:
            image[data.draw(st.integers(0, len(image) - 1))] = data.draw(st.integers(0, 255))
    ko = tmp_path / "x.ko"
    ko.write_bytes(image)
    for read in (read_suites, module_info):
        with suppress(HarnessError):
            read(ko)


# include/linux/moduleparam.h of 6.12; a vmlinux is linked
PARAMETER = """\
static const struct kernel_param {
	const char *name;
	void *mod;
	const void *ops;
	const unsigned short perm;
	signed char level;
	unsigned char flags;
	void *arg;
} __param_filter_glob __attribute__((used, section("__param"))) = { "kunit.filter_glob", 0, 0, %s };
"""


@pytest.mark.parametrize(
    ("source", "chooses"),
    [
        (PARAMETER % "0600", True),
        (PARAMETER % "0444", False),
        (PARAMETER % "0", False),
        ("int other;\n", False),
    ],
)
def test_whether_a_kernel_s_kunit_can_be_told_what_to_run(tmp_path, source, chooses):
    (tmp_path / "kernel.c").write_text(source)
    vmlinux = tmp_path / "vmlinux"
    link = [GCC, "-nostdlib", "-static", "-Wl,-e,0", "-o", vmlinux, tmp_path / "kernel.c"]
    subprocess.run(link, check=True)
    assert chooses_cases(vmlinux) is chooses
