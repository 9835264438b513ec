"""A stored record as JUnit XML, for a CI to read."""

from __future__ import annotations

import re
from pathlib import Path

from junitparser import Error, Failure, JUnitXml, Properties, Property, Skipped, TestCase, TestSuite

from harness.results.record import CaseRecord, CellRecord, RunRecord, write_whole
from harness.verdict import Verdict

# What XML 1.0 cannot hold, section 2.2; names and messages come from the guest.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(record: RunRecord, path: Path) -> None:
    """Write the record: a test suite for each cell and suite, the cell in its name."""
    write_whole(path, render(record))


def render(record: RunRecord) -> str:
    """Return the record as JUnit XML."""
    xml = JUnitXml()
    for cell in record.cells:
        for name in dict.fromkeys(case.suite for case in cell.cases):
            xml.add_testsuite(_suite(cell, name))
    xml.update_statistics()
    return str(xml.tostring().decode())


def _suite(cell: CellRecord, name: str) -> TestSuite:
    suite = TestSuite(clean(f"{cell.name}.{name}"))
    for key in ("kernel_version", "board", "layout", "qemu_version"):
        suite.add_property(key, clean(str(getattr(cell, key))))
    for case in cell.cases:
        if case.suite == name:
            suite.add_testcase(_case(cell, case))
    return suite


def _case(cell: CellRecord, case: CaseRecord) -> TestCase:
    element = TestCase(clean(case.name), clean(f"{cell.name}.{case.suite}"), case.duration)
    message = clean(case.message)
    headline = message.partition("\n")[0]
    match case.verdict:
        case Verdict.PASS:
            pass
        case Verdict.SKIP | Verdict.XFAIL:
            element.result = [Skipped(f"{case.verdict}: {headline}", str(case.verdict))]
        case Verdict.ERROR:
            element.result = [_with_text(Error(headline, str(case.verdict)), message)]
        case _:
            text = f"{case.verdict}: {headline}"
            element.result = [_with_text(Failure(text, str(case.verdict)), message)]
    if case.metrics:
        properties = Properties()
        for name, metric in case.metrics.items():
            text = f"{metric.value:g} {metric.unit}".strip()
            properties.add_property(Property(clean(name), clean(text)))
        element.append(properties)
    return element


def _with_text(result: Failure | Error, text: str) -> Failure | Error:
    result.text = text
    return result


def clean(text: str) -> str:
    """Return the text without the characters that XML forbids."""
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
