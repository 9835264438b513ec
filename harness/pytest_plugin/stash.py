"""What the plugin keeps with pytest's configuration and items."""

from __future__ import annotations

import pytest

from harness.module_run import Outcome
from harness.results.record import Metric
from harness.session import Session
from harness.verdict import Verdict

SESSION = pytest.StashKey[Session]()
OUTCOME = pytest.StashKey[Outcome]()
METRICS = pytest.StashKey[dict[str, Metric]]()
# What a case ends as because of a defect of the kernel's, where that is no FAIL.
EXPECTED = pytest.StashKey[Verdict]()
