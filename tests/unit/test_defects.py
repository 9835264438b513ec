"""configs/defects.toml: what is said of a case, and on which kernels."""

from __future__ import annotations

import ast

import pytest
from pydantic import ValidationError

from harness.config import CONFIGS, Defect, load_defects

WINS = "tests/target/test_boot_nodes.py::test_wins[two-low]"


def defect(case: str, versions: str = "since 6.12") -> Defect:
    return Defect(case=case, versions=versions, reason="it is so")


@pytest.mark.parametrize(
    "case", ["test_boot_nodes.py::test_wins[two-low]", "test_boot_nodes.py::*low]", "target/*"]
)
def test_a_case_is_named_by_the_end_of_its_id(case: str):
    assert defect(case).is_about(WINS)


@pytest.mark.parametrize(
    "case",
    [
        "boot_nodes.py::test_wins[two-low]",  # not from a name on
        "test_boot_nodes.py::test_wins",  # not to the end
        "test_boot_nodes.py::test_wins[tl]",  # no set of letters, as a shell would have it
    ],
)
def test_another_case_is_not_meant(case: str):
    assert not defect(case).is_about(WINS)


def test_versions_that_are_none_are_told():
    with pytest.raises(ValidationError, match="are no versions such as"):
        defect("*", "6.12")


def test_the_reason_tells_where_it_is_so():
    known = Defect(case="*", versions="since 6.13", commit="8a6e02d0c00e", reason="it is so")
    assert str(known) == "it is so (since 6.13, 8a6e02d0c00e)"


@pytest.mark.parametrize("known", load_defects(), ids=lambda known: known.case)
def test_each_is_of_a_case_that_exists(known: Defect):
    """A case of tests/target that was renamed would leave a line that excuses nothing."""
    file, _, case = known.case.partition("::")
    if not file.endswith(".py"):
        pytest.skip("a case of a module: its name is in the .ko")
    text = (CONFIGS.parent / "tests" / "target" / file).read_text()
    names = {node.name for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)}
    function, _, parameters = case.rpartition("::")[2].partition("[")
    assert function in names | {"*"}
    assert parameters.rstrip("]*") in text
