"""How a kernel's build is begun, and what is said of one that does not compile."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from harness.cache import Cache
from harness.config import Kernel
from harness.errors import BuildFailed, CommandFailed
from harness.kernel import make as kbuild
from harness.kernel.toolchain import Toolchain
from harness.kernel.tree import Source
from harness.progress import Phase

ERROR = "mm/cma.c:9:2: error: 'pages' undeclared (first use in this function)"
LAST = "I: default: FAIL in 0:00:00.4"  # of tuxmake, which has gone on with --keep-going
PREPROCESSING = ["-E", "-x", "c", os.devnull]


@pytest.fixture
def make(tmp_path):
    kernel = Kernel(name="6.12", package="linux-source-6.12", config=())
    chain = Toolchain("arm-", "gcc", "armhf")
    source = Source(tmp_path / "linux", "1", "6.12.0", "linux", "1")
    work = tmp_path / "work"
    return kbuild.Make(kernel, source, work, tmp_path / "out", chain, Cache(tmp_path / "cache"))


@pytest.fixture
def ran(monkeypatch):
    """Have nothing run; return what would have been."""
    commands = []

    def run(command, **options):
        commands.append((command, options))

    monkeypatch.setattr(kbuild, "run", run)
    return commands


def test_a_kernel_that_does_not_compile_is_told_by_the_compiler_s_complaint(make, monkeypatch):
    def run(command, *, log=None, error=CommandFailed, **_):
        if log:
            others = (f"  CC      lib/{number}.o" for number in range(50))
            log.write_text("\n".join(["mm/cma.c: In function 'f':", ERROR, *others, LAST]))
            raise error(f"ended with status 2\n{LAST}", where="tuxmake", next_step="see the log")

    monkeypatch.setattr(kbuild, "run", run)
    with pytest.raises(BuildFailed) as caught:
        make.everything(Phase("kernel", None))
    assert caught.value.what == f"mm/cma.c: In function 'f':\n{ERROR}"
    assert (caught.value.where, caught.value.next_step) == ("tuxmake", "see the log")


class TestWhatTheCompilerIsTold:
    def flags(self, ran):
        (flags,) = [word for word in ran[-1][0] if word.startswith("--environment=KCFLAGS=")]
        return flags.removeprefix("--environment=KCFLAGS=")

    def test_it_leaves_out_the_views(self, make, ran):
        make.everything(Phase("kernel", None))
        assert ran[0][0] == ["arm-gcc", "-gno-variable-location-views", *PREPROCESSING]
        assert self.flags(ran) == "-gno-variable-location-views"

    def test_one_that_knows_none_is_told_nothing(self, make, monkeypatch):
        ran = []

        def run(command, **options):
            ran.append((command, options))
            if len(ran) == 1:
                raise CommandFailed("unrecognized debug output level")

        monkeypatch.setattr(kbuild, "run", run)
        make.everything(Phase("kernel", None))
        assert self.flags(ran) == " "

    @pytest.mark.parametrize("named", [{"LLVM": "1"}, {"CC": "arm-gcc-7"}], ids=["LLVM", "CC"])
    def test_one_that_the_kernel_names_is_told_nothing(self, make, ran, named):
        other = replace(make, kernel=make.kernel.model_copy(update={"make": named}))
        other.everything(Phase("kernel", None))
        assert len(ran) == 1
        assert self.flags(ran) == " "


class TestHeadersThatNeverChange:
    def ignored(self, ran):
        return ran[-1][1]["env"].get("CCACHE_IGNOREHEADERS")

    def test_those_of_a_source_in_the_cache_are_not_read_by_ccache(self, make, ran):
        settled = replace(make, source=replace(make.source, settled=True))
        settled.configure(())
        assert self.ignored(ran) == str(make.source.tree)
        settled.everything(Phase("kernel", None))
        assert self.ignored(ran) == str(make.source.tree)

    def test_those_of_a_user_s_tree_are(self, make, ran):
        make.everything(Phase("kernel", None))
        assert self.ignored(ran) is None


class TestTheConfigurationIsEvaluatedAsSeldomAsCanBe:
    """make evaluates it again when include/config/auto.conf is older than .config."""

    @pytest.fixture
    def auto(self, make):
        auto = make.work / "include" / "config" / "auto.conf"
        auto.parent.mkdir(parents=True)
        return auto

    def configured(self, make, auto, monkeypatch):
        """Have kconfig write auto.conf as it does: if there is none; return whose it is."""

        def run(command, **_):
            if command[0] == "make" and not auto.exists():
                auto.write_text(command[-1])

        monkeypatch.setattr(kbuild, "run", run)
        make.configure(())
        return auto.read_text()

    def test_in_a_new_directory_it_is_the_last_target_s(self, make, auto, monkeypatch):
        assert self.configured(make, auto, monkeypatch) == "olddefconfig"

    def test_in_a_known_one_it_stays_for_make_to_see_what_differs(self, make, auto, monkeypatch):
        auto.write_text("the last build's")
        assert self.configured(make, auto, monkeypatch) == "the last build's"
