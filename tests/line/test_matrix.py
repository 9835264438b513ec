"""Several cells in one run, on real guests: side by side, broken, interrupted, gone on with."""

from __future__ import annotations

import json
import signal
from xml.etree import ElementTree

from harness.results.record import CELL_CASE, RunRecord
from harness.verdict import Verdict

from .conftest import children, gone, wait_until

CELLS = ("6.12-virt-default", "6.12-virt-two-areas")
BOTH = ("test", "--layout", "default,two-areas", "kmod/cma_kunit")
SHORT = ("-k", "largest_buffer")


def verdicts(stored: RunRecord, cell: str) -> set[Verdict]:
    """Return the verdicts of a cell's cases."""
    (found,) = (each for each in stored.cells if each.name == cell)
    return {case.verdict for case in found.cases}


def test_cells_run_side_by_side_into_one_record(run):
    line = run(*BOTH, *SHORT, "-n", "2")
    assert line.status == 0, line.output
    stored = line.record
    assert stored.ended is not None
    assert tuple(cell.name for cell in stored.cells) == CELLS
    for cell in stored.cells:
        assert cell.seconds is not None
        assert {case.verdict for case in cell.cases} == {Verdict.PASS, Verdict.SKIP}
        logs = {case.console.log for case in cell.cases if case.console}
        assert logs
        assert all((line.directory / cell.name / log).is_file() for log in logs)
    # The second began before the first had ended.
    began = [line.output.index(f"{cell}: began") for cell in CELLS]
    assert max(began) < min(line.output.index(f"{cell}: ", max(began) + 1) for cell in CELLS)
    # A kernel for both, made once.
    assert line.output.count("kernel 6.12: began") == 1
    junit = ElementTree.parse(line.directory / "junit.xml")
    suites = {each.attrib["name"] for each in junit.iter("testsuite")}
    assert {f"{cell}.cma_driver" for cell in CELLS} <= suites
    # The areas differ, and the table of cells and suites says so.
    assert "cma_private  -  1" in line.output, line.output
    assert 'class="grid"' in (line.directory / "report.html").read_text()


def test_a_broken_cell_stops_no_other(run, tmp_path):
    tree = tmp_path / "linux"
    (tree / "mm").mkdir(parents=True)
    (tree / "Kbuild").touch()
    (tree / "Makefile").write_text("# a kernel that does not build\n")
    huge = tmp_path / "huge.toml"
    huge.write_text('description = "more than there is"\n[[area]]\nname = "a"\nsize = "2G"\n')
    kernels, layouts = f"{tree},6.12", f"{huge},default"
    line = run("test", "--kernel", kernels, "--layout", layouts, "kmod/cma_kunit", *SHORT)
    assert line.status == 3, line.output
    cells = {cell.name: cell for cell in line.record.cells}
    assert {case.verdict for case in cells[CELLS[0]].cases} == {Verdict.PASS, Verdict.SKIP}
    (broken,) = cells["linux-virt-default"].cases
    assert (broken.id, broken.verdict) == (CELL_CASE, Verdict.ERROR)
    assert "no VERSION in the Makefile" in broken.message
    for name in ("linux-virt-huge", "6.12-virt-huge"):
        (none,) = cells[name].cases
        assert none.verdict is Verdict.SKIP
        assert "2048 MiB" in none.message


def test_ctrl_c_keeps_what_is_finished_and_resume_goes_on(start, run):
    line = start(*BOTH, *SHORT, "-n", "1")

    def second_runs() -> bool:
        assert line.process.poll() is None, line.wait().output
        place = line.directory / CELLS[1]
        return bool(place.exists() and children(line.process.pid, "-qmp"))

    wait_until(second_runs, 900)
    guests = children(line.process.pid, "-qmp")
    line.process.send_signal(signal.SIGINT)
    line.wait(120)
    assert line.status == 130, line.output
    assert "Traceback" not in line.output
    wait_until(lambda: all(gone(pid) for pid in guests), 10)
    stopped = line.record
    assert stopped.ended is None
    assert verdicts(stopped, CELLS[0]) == {Verdict.PASS, Verdict.SKIP}
    assert Verdict.LOST in verdicts(stopped, CELLS[1])

    again = run("test", f"--resume={line.directory}")
    assert again.status == 0, again.output
    whole = line.record
    assert whole.ended is not None
    assert whole.cells[0] == stopped.cells[0]  # not run again
    assert CELL_CASE not in {case.id for case in whole.cases()}
    assert verdicts(whole, CELLS[1]) == {Verdict.PASS, Verdict.SKIP}


def test_a_dry_run_tells_the_cells_and_leaves_nothing(run):
    line = run("test", "--layout", "default,two-areas", "-n", "auto", "--dry-run", "--json")
    assert line.status == 0, line.output
    facts = json.loads(line.output)
    assert tuple(cell["name"] for cell in facts["cells"]) == CELLS
    assert facts["limits"]["cells"] >= 1
    assert not line.directory.exists()
