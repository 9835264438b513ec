"""What the literature says of CMA, looked at on live guests: a file for each claim."""

from collections.abc import Mapping

from harness.studies import (
    arm_aliasing,
    buffer_lru,
    compaction,
    deep_dive,
    discard_clean,
    helper,
    patchset,
    pins,
    reworked,
    thesis,
    transcendent,
    volatile,
)
from harness.studies.study import Study

_IN_ORDER = (
    helper,
    patchset,
    deep_dive,
    arm_aliasing,
    discard_clean,
    buffer_lru,
    pins,
    compaction,
    transcendent,
    volatile,
    thesis,
    reworked,
)

STUDIES: Mapping[str, Study] = {module.STUDY.name: module.STUDY for module in _IN_ORDER}
"""All of them, by name, in the order in which they are told."""

__all__ = ["STUDIES"]
