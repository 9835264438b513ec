"""What mem-take tells, on a console."""

from __future__ import annotations

from harness.studies.taking import Taken, taken

CONSOLE = (
    "cma-harness: ready\r\n"
    '{"asked": 4096, "pages": 4096, "oom": false, "in_cma": 2050, "took_ns": 31186464}\r\n'
    "[    8.1] mem-take invoked oom-killer: gfp_mask=0x140cca\r\n"
    '{"asked": 81920, "pages": 57366, "oom": true}\r\n'
)


def test_each_run_is_told_and_one_that_was_killed_knows_only_how_much_it_had():
    assert taken(CONSOLE) == (
        Taken(asked=4096, pages=4096, oom=False, in_cma=2050, took_ns=31186464),
        Taken(asked=81920, pages=57366, oom=True),
    )
