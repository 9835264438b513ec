"""The kernel's messages, told from what programs wrote on the same console."""

from __future__ import annotations

from harness.printk import messages


def test_what_programs_wrote_is_left_out():
    console = (
        b"its end\r\n# insmod a.ko\r\n[    1.605537] a: loading\r\nno stamp\r\n"
        b"# echo x[   12.000001][   T12] b\xff\r\n[    3.0] not printk's\n"
    )
    assert messages(console) == ("[    1.605537] a: loading", "[   12.000001][   T12] b\ufffd")


def test_a_message_that_began_before_is_somebody_else_s():
    assert messages(b"05537] a: loading\n") == ()
