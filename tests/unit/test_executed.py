"""Calls in QEMU's log of executed blocks."""

from __future__ import annotations

from harness.guest.executed import Call, parse

FIXUP = """\
Trace 0: 0x7f15ec130bc0 [00800400/c07046da/00000120/ff080200] 
R00=5c000000 R01=04000000 R02=00000000 R03=00000011
R04=000001cc R05=5c000000 R06=00000000 R07=ff804208
R08=c0734a50 R09=c0734a54 R10=04000000 R11=00400000
R12=656c6261 R13=c0801dd0 R14=c071cb3b R15=c07046da
PSR=800001f3 N--- T svc32
"""  # noqa: W291  as QEMU 7.2 prints it
CALL = Call("dma_contiguous_early_fixup", 0, (0x5C000000, 0x4000000, 0, 0x11), 0xC071CB3B)
NAMES = {0xC07046DA: CALL.function}


def test_a_call_has_its_arguments_and_where_it_returns():
    assert parse(FIXUP, NAMES) == (CALL,)
    assert parse(FIXUP.replace("Trace 0", "Trace 1"), NAMES)[0].cpu == 1


def test_a_block_in_the_middle_of_a_function_is_no_call():
    assert parse(FIXUP.replace("/c07046da/", "/c07046dc/"), NAMES) == ()


def test_a_block_that_was_stopped_before_it_began_counts_once():
    stopped = "Stopped execution of TB chain before 0x7f15ec130bc0 [c07046da] \n"
    assert parse(FIXUP + stopped + FIXUP, NAMES) == (CALL,)
