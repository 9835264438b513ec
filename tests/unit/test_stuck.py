"""A guest that spins is told from one that works, sleeps, or is not given a processor."""

import os
from pathlib import Path

import pytest

from harness.guest.stuck import Stuck, cpu_seconds, program_counters, telling

# QEMU 7.2's `info registers -a`, of a kernel that faults before its vectors are mapped.
REGISTERS = """CPU#0
R00=c0d08000 R01=00000000 R02=00000000 R03=00000000
R12=00000000 R13=c0801f80 R14=ffff0010 R15=ffff000c
PSR=000001f7 ---- A NS abt32
CPU#1
R12=00000000 R13=00000000 R14=00000000 R15=00000000
PSR=400001d3 -Z-- A NS svc32
"""


def looks(counters, seconds):
    """What a watch says of each look at these counters, at these processor times."""
    places, times = iter(counters), list(seconds)
    at = iter(range(len(times)))
    now = [0.0]

    def place():
        now[0] = times[next(at)]
        return next(places)

    stuck = Stuck(place, lambda: now[0])
    return [stuck.look() for _ in times]


def test_each_processor_has_a_program_counter():
    assert program_counters(REGISTERS) == (0xFFFF000C, 0)


def test_a_guest_that_was_heard_meanwhile_begins_anew():
    now = iter([0.0, *(5.0,) * 5])
    stuck = Stuck(lambda: (1, 2), lambda: next(now))
    assert stuck.look() == ()
    stuck.forget()
    assert [stuck.look() for _ in range(5)] == [()] * 5


def test_seconds_at_one_place_are_stuck():
    said = looks([(0xFFFF000C, 0)] * 12, [0.25 * turn for turn in range(12)])
    assert said[:8] == [()] * 8
    assert said[8:] == [(0xFFFF000C, 0)] * 4


def test_a_step_of_any_processor_begins_anew():
    places = [(8, 0)] * 8 + [(8, 4)] + [(8, 0)] * 8
    assert set(looks(places, [0.25 * turn for turn in range(17)])) == {()}


@pytest.mark.parametrize("seconds", [[1.0] * 40, [1.0 + turn / 1000 for turn in range(40)]])
def test_processors_that_sleep_are_not_stuck(seconds):
    assert set(looks([(0xC01108C6, 0xC01108C6)] * 40, seconds)) == {()}


def test_a_few_looks_over_a_long_time_say_nothing():
    """A host under load may let the harness look twice in many seconds of QEMU's time."""
    assert set(looks([(8, 8)] * 4, [0.0, 20.0, 40.0, 60.0])) == {()}


def test_processor_time_is_that_of_the_process():
    user, system, *_ = os.times()
    assert cpu_seconds(os.getpid()) == pytest.approx(user + system, abs=0.1)


def test_a_process_that_is_gone_has_used_none():
    unused = int(Path("/proc/sys/kernel/pid_max").read_text())
    assert cpu_seconds(unused) == 0.0


# What a 6.12 guest answered, shortened: an idle processor, three tasks, and what comes after them.
ANSWERED = """\
[    8.596774] sysrq: Show backtrace of all active CPUs
[    8.599636] NMI backtrace for cpu 0
[    8.615413] CPU: 0 UID: 0 PID: 0 Comm: swapper/0 Tainted: G           O     N 6.12.117 #6
[    8.615944] Call trace:
[    8.621992]  pl011_int from __handle_irq_event_percpu+0x45/0x130
[    8.622209] Exception stack(0xc0801f40 to 0xc0801f88)
[    8.622499] 1f40: 00a7008c 00000001 00000000 00000000 c0807540 c0930a20 c0807540 c0804e50
[    8.651765] NMI backtrace for cpu 1 skipped: idling at default_idle_call+0x10/0x7c
[    8.964675] sysrq: Show State
[    8.965553] task:init            state:S stack:0     pid:1     tgid:1     ppid:0
[    8.966208]  __schedule from schedule+0x1b/0xb0
[    8.966553] task:insmod          state:D stack:0     pid:81    tgid:81    ppid:74
[    8.967208]  schedule_timeout from __wait_for_common+0x91/0x124
[    8.967553] task:kunit_try_catch state:S stack:0     pid:83    tgid:83    ppid:2
[    8.968208]  schedule from never_ends+0x1b/0x28 [broken_hang]
[    8.968553] Showing busy workqueues and worker pools:
"""


def test_who_may_be_to_blame_is_told():
    said = [line[15:] for line in telling(ANSWERED).splitlines()]
    assert said == [
        "NMI backtrace for cpu 0",
        "CPU: 0 UID: 0 PID: 0 Comm: swapper/0 Tainted: G           O     N 6.12.117 #6",
        " pl011_int from __handle_irq_event_percpu+0x45/0x130",
        "NMI backtrace for cpu 1 skipped: idling at default_idle_call+0x10/0x7c",
        "task:insmod          state:D stack:0     pid:81    tgid:81    ppid:74",
        " schedule_timeout from __wait_for_common+0x91/0x124",
        "task:kunit_try_catch state:S stack:0     pid:83    tgid:83    ppid:2",
        " schedule from never_ends+0x1b/0x28 [broken_hang]",
    ]


def test_a_kernel_that_does_not_listen_tells_nothing():
    assert telling("") == ""
