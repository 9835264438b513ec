"""The console against a peer on a socket: bytes that a test sends, or a real sh of the host."""

import contextlib
import hashlib
import os
import pty
import re
import socket
import subprocess
import termios
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import GuestDied, GuestError, GuestTimeout, KernelFaulted, UsageError
from harness.guest import marks, transfer
from harness.guest.command import Completed
from harness.guest.console import READY, Console, NoFault

WARNING = (
    b"[    1.000001] ------------[ cut here ]------------\r\n"
    b"[    1.000002] WARNING: CPU: 0 PID: 1 at mm/cma.c:12 cma_alloc+0x1/0x2\r\n"
    b"[    1.000003] Modules linked in:\r\n"
    b"[    1.000004] ---[ end trace 0000000000000000 ]---\r\n"
)
PANIC = (
    b"[    2.000001] Kernel panic - not syncing: Fatal exception\r\n"
    b"[    2.000002] CPU: 0 PID: 1 Comm: sh\r\n"
)


@pytest.fixture
def peer():
    """The guest's end, and the console on the other."""
    here, there = socket.socketpair()
    console = Console(here, why=lambda: "QEMU was killed by signal 9")
    yield there, console
    console.close()
    there.close()
    here.close()


@pytest.fixture
def shell():
    """A console whose guest is the host's sh. In a session of its own it has no /dev/tty."""
    here, there = socket.socketpair()
    process = subprocess.Popen(
        ["sh"], stdin=there, stdout=there, stderr=subprocess.DEVNULL, start_new_session=True
    )
    console = Console(here, why=lambda: "the shell ended")
    yield there, console
    process.kill()
    process.wait()
    console.close()
    there.close()
    here.close()


def test_wait_for_consumes_up_to_the_match(peer):
    guest, console = peer
    guest.sendall(b"one two three")
    assert console.wait_for(rb"t[w]o", 5) == b"one two"
    assert console.position == 7
    assert console.wait_for(rb"th", 5) == b" th"
    assert console.text(4, 7) == b"two"


def test_what_qemu_said_last_is_read_whoever_closes_its_socket_meanwhile():
    here, there = socket.socketpair()
    console = Console(here, why=lambda: "QEMU has ended")
    there.sendall(b"the last " * 9000)
    here.close()
    there.close()
    console.close()
    assert len(console.text()) == 81000


def test_what_was_read_behind_a_match_does_not_come_back(peer):
    guest, console = peer
    guest.sendall(b"mark and what came with it")
    console.wait_for(rb"mark", 5)
    assert console.read(5) == b" and what came with it"
    guest.sendall(b"next")
    assert console.wait_for(rb"next", 5) == b"next"
    assert console.position == len(b"mark and what came with it" + b"next")


def test_what_a_look_has_fetched_is_part_of_the_next_match(peer):
    guest, console = peer
    guest.sendall(b"fetched, ")
    console.check(0.2)
    guest.sendall(b"found")
    assert console.wait_for(rb"found", 5) == b"fetched, found"


def test_wait_for_finds_what_comes_in_pieces(peer):
    guest, console = peer
    noise = b"x" * 100_000
    guest.sendall(noise + b"re")
    for delay, piece in ((0.1, b"a"), (0.2, b"dy")):
        threading.Timer(delay, guest.sendall, [piece]).start()
    assert console.wait_for(rb"ready", 5) == noise + b"ready"


def test_a_timeout_consumes_nothing_and_shows_the_tail(peer):
    guest, console = peer
    guest.sendall(b"".join(b"line %d\r\n" % i for i in range(30)) + b"\x1b[31mlast")
    with pytest.raises(GuestTimeout) as raised:
        console.wait_for(rb"never", 0.1)
    assert raised.value.tail.splitlines() == [*(f"line {i}" for i in range(11, 30)), "[31mlast"]
    assert console.position == 0


def test_a_slow_kernel_is_waited_for_longer():
    here, there = socket.socketpair()
    console = Console(here, why=lambda: "", slow=50)
    threading.Timer(0.5, there.sendall, [b"at last"]).start()
    assert console.wait_for(rb"at last", 0.1) == b"at last"
    with pytest.raises(GuestTimeout, match=r"not within 0\.5 s"):
        console.wait_for(rb"never", 0.01)
    console.close()
    there.close()
    here.close()


def test_the_peer_s_end_ends_the_wait_at_once(peer):
    guest, console = peer
    timer = threading.Timer(0.1, guest.shutdown, [socket.SHUT_RDWR])
    guest.sendall(b"last words")
    timer.start()
    began = time.monotonic()
    with pytest.raises(GuestDied, match="killed by signal 9") as raised:
        console.wait_for(rb"never", 30)
    assert time.monotonic() - began < 5
    assert raised.value.tail == "last words"


def test_what_came_before_the_end_is_found(peer):
    guest, console = peer
    guest.sendall(b"ready")
    guest.shutdown(socket.SHUT_RDWR)
    assert console.wait_for(rb"ready", 5) == b"ready"


def test_the_guest_is_read_while_nobody_waits(peer):
    guest, _ = peer
    guest.settimeout(10)
    for _ in range(5000):
        guest.sendall(b"x")  # blocks after 278 if nobody reads


def test_a_signal_that_comes_after_its_bytes_were_taken_is_not_the_end(peer):
    _, console = peer
    os.eventfd_write(console._stream.fileno(), 1)
    with pytest.raises(GuestTimeout):
        console.wait_for(rb"never", 0.1)


def test_a_fault_ends_the_wait_with_all_of_its_text(peer):
    guest, console = peer
    guest.sendall(b"noise\r\n" + WARNING[:90])
    timer = threading.Timer(0.1, guest.sendall, [WARNING[90:] + b"goal"])
    timer.start()
    with pytest.raises(KernelFaulted) as raised:
        console.wait_for(rb"goal", 5)
    assert "cut here" in raised.value.what
    assert "end trace" in raised.value.what
    assert console.wait_for(rb"goal", 5).endswith(b"goal")  # nothing was consumed
    assert console.take_faults() == ()  # it is known


def test_a_fault_after_the_match_is_for_the_next_wait(peer):
    guest, console = peer
    guest.sendall(b"goal\r\n" + WARNING)
    assert console.wait_for(rb"goal", 5) == b"goal"
    with pytest.raises(KernelFaulted):
        console.wait_for(rb"never", 5)


def test_faults_between_waits_are_taken_once(peer):
    guest, console = peer
    guest.sendall(WARNING)
    deadline = time.monotonic() + 5
    faults = ()
    while not faults and time.monotonic() < deadline:
        faults = console.take_faults()
    assert [fault.kind for fault in faults] == ["warning"]
    assert console.take_faults() == ()


def test_check_raises_what_has_come(peer):
    guest, console = peer
    console.check()
    guest.sendall(PANIC)
    with pytest.raises(KernelFaulted, match="Fatal exception"):
        console.check(timeout=5)
    guest.shutdown(socket.SHUT_RDWR)
    with pytest.raises(GuestDied):
        console.check(timeout=5)


def test_an_expected_fault_does_not_end_the_wait(peer):
    guest, console = peer
    with console.expect_fault("warning") as faults:
        guest.sendall(WARNING + b"goal")
        console.wait_for(rb"goal", 5)
    assert [fault.kind for fault in faults] == ["warning"]


def test_an_expected_fault_may_come_after_the_block(peer):
    guest, console = peer
    timer = threading.Timer(0.1, guest.sendall, [WARNING])
    with console.expect_fault() as faults:
        timer.start()
    assert len(faults) == 1


def test_an_expected_fault_that_does_not_come_is_a_failure(peer):
    _, console = peer
    with pytest.raises(NoFault, match="none came"), console.expect_fault("oops", timeout=0.1):
        pass


def test_a_fault_of_another_kind_is_not_excused(peer):
    guest, console = peer
    guest.sendall(b"before")
    console.wait_for(rb"before", 5)
    timer = threading.Timer(0.1, guest.sendall, [WARNING])
    timer.start()
    with pytest.raises(KernelFaulted), console.expect_fault("oops"):
        console.wait_for(rb"never", 5)


def test_an_expected_panic_ends_the_block_in_peace(peer):
    guest, console = peer
    after = False
    with console.expect_fault("panic") as faults:
        guest.sendall(PANIC)
        guest.shutdown(socket.SHUT_RDWR)
        console.wait_for(rb"never", 5)
        after = True
    assert not after
    assert [fault.terminal for fault in faults] == [True]


def test_a_death_without_a_fault_is_not_excused(peer):
    guest, console = peer
    guest.shutdown(socket.SHUT_RDWR)
    with pytest.raises(GuestDied), console.expect_fault("panic"):
        console.wait_for(rb"never", 5)


def test_read_passes_faults_through_and_leaves_them_to_take(peer):
    guest, console = peer
    guest.sendall(b"ok 1\r\n" + WARNING + b"ok 2\r\n")
    text = b""
    while b"ok 2" not in text:
        text += console.read(5)
    assert text.startswith(b"ok 1")
    assert len(console.take_faults()) == 1


def test_a_dmesg_that_repeats_a_fault_is_no_new_one(shell, tmp_path):
    _, console = shell
    old = tmp_path / "dmesg"
    old.write_bytes(WARNING.replace(b"\r\n", b"\n"))
    done = console.run(f"cat {old}", 5)
    assert "cma_alloc" in done.output
    assert console.take_faults() == ()


def test_a_fault_while_a_command_runs_is_one(shell):
    guest, console = shell
    timer = threading.Timer(0.1, guest.sendall, [WARNING])
    timer.start()
    with pytest.raises(KernelFaulted):
        console.run("sleep 0.5", 5)


def test_run_gives_status_and_output(shell):
    _, console = shell
    done = console.run("echo hi; exit 3", 5)
    assert (done.status, done.output) == (3, "hi\n")
    assert console.run("printf 'no line end'", 5).output == "no line end"
    assert console.run("echo \"it's\" 'a  b' $((6*7))\necho two", 5).output == "it's a  b 42\ntwo\n"
    assert console.run("echo )(", 5).status == 2
    assert console.run("cat", 5).output == ""  # no input to steal


def test_run_takes_big_output(shell):
    _, console = shell
    output = console.run("seq 1 200000", 30).output
    assert output == "".join(f"{i}\n" for i in range(1, 200001))


def test_run_drops_the_kernel_s_messages_but_not_those_of_dmesg(shell):
    guest, console = shell
    dmesg = "[    1.234567] printed by dmesg\n"
    timer = threading.Timer(0.1, guest.sendall, [b"[   12.345678] by the kernel\r\n"])
    timer.start()
    done = console.run(f"printf 'be'; sleep 0.3; echo fore; printf '{dmesg}'", 5)
    assert done.output == "before\n" + dmesg


def test_run_after_a_timeout_is_not_confused(shell):
    _, console = shell
    with pytest.raises(GuestTimeout, match=r"sleep 0\.5"):
        console.run("sleep 0.5; echo late", 0.1)
    assert console.run("echo next", 5).output == "next\n"


def test_run_refuses_what_the_terminal_would_eat(shell):
    _, console = shell
    with pytest.raises(UsageError, match="control character"):
        console.run("echo \x03", 5)
    with pytest.raises(UsageError, match="4000"):
        console.run("echo " + "x" * 5000, 5)


def test_put_and_get_keep_bytes_and_mode(shell, tmp_path):
    _, console = shell
    source, there, back = (tmp_path / name for name in ("source", "it's there", "back"))
    source.write_bytes(bytes(range(256)) * 300)
    source.chmod(0o750)
    console.put(source, str(there))
    assert there.read_bytes() == source.read_bytes()
    assert there.stat().st_mode & 0o777 == 0o750
    console.get(str(there), back)
    assert back.read_bytes() == source.read_bytes()
    assert back.stat().st_mode & 0o777 == 0o750
    assert not list(tmp_path.glob("*.part"))


def test_get_of_a_missing_file_says_so(shell, tmp_path):
    _, console = shell
    with pytest.raises(GuestError, match="No such file"):
        console.get(str(tmp_path / "nope"), tmp_path / "back")


def test_a_copy_that_differs_is_refused(tmp_path):
    digest = hashlib.sha256(b"other").hexdigest()
    (tmp_path / "source").write_bytes(b"bytes")
    lie = {"chmod": f"{digest}  -\n5\n", "stat": f"644\n{digest}  -\n5\n"}
    asked = []

    def run(command, timeout):
        asked.append(command.split()[0])
        return Completed(0, lie[asked[-1]])

    with pytest.raises(GuestError, match="differs"):
        transfer.put(run, lambda part: None, tmp_path / "source", "/there", 5)
    with pytest.raises(GuestError, match="differs"):
        transfer.get(run, lambda: b"bytes", "/there", tmp_path / "back", 5)
    assert asked == ["chmod", "stat"]  # nothing was renamed
    assert not (tmp_path / "back").exists()


MESSAGE = b"[    1.234567] cma: __cma_alloc: reserved: alloc failed\r\n"
TEXT = st.binary(max_size=60).filter(lambda text: b"[" not in text and b"~" not in text)


@given(TEXT, st.integers(0, 255), st.lists(st.integers(min_value=0, max_value=90), max_size=4))
def test_a_message_anywhere_changes_neither_status_nor_output(text, status, places):
    mark = marks.fresh()
    stream = text + mark + b":%d.\n" % status
    # A message never stands inside another.
    for place in sorted({min(place, len(stream) - 1) for place in places}, reverse=True):
        stream = stream[:place] + MESSAGE + stream[place:]
    assert marks.split(mark, stream) == (status, text)


def test_the_typed_mark_is_not_the_mark():
    mark = marks.fresh()
    assert not re.search(marks.woven(mark), b"echo " + marks.typed(mark))
    assert subprocess.check_output(["sh", "-c", b"echo " + marks.typed(mark)]) == mark + b"\n"


def test_the_init_template_says_ready():
    template = Path(__file__).parents[2] / "images" / "init.sh.jinja2"
    assert template.read_bytes().count(READY) == 1


def test_interact_needs_a_terminal(peer, tmp_path, monkeypatch):
    _, console = peer
    with (tmp_path / "file").open("w+") as file:
        monkeypatch.setattr("sys.stdin", file)
        monkeypatch.setattr("sys.stdout", file)
        with pytest.raises(UsageError, match="terminal"):
            console.interact(tmp_path / "transcript")


@pytest.mark.parametrize("ending", ["ctrl-]", "guest"])
def test_interact_joins_and_restores_the_terminal(peer, tmp_path, monkeypatch, ending):
    guest, console = peer
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    typed = b"ls\x03" + (b"\x1d" if ending == "ctrl-]" else b"")
    with os.fdopen(slave, "rb+", buffering=0) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        monkeypatch.setattr("sys.stdout", terminal)
        guest.sendall(b"hello")

        def person():
            seen = b""
            while b"hello" not in seen:
                seen += os.read(master, 100)
            os.write(master, typed)
            if ending == "guest":
                with contextlib.suppress(OSError):
                    guest.shutdown(socket.SHUT_WR)

        thread = threading.Thread(target=person)
        thread.start()
        running = console.interact(tmp_path / "transcript")
        thread.join()
        assert termios.tcgetattr(slave) == before
    assert running is (ending == "ctrl-]")
    assert (tmp_path / "transcript").read_bytes() == b"hello"
    got = guest.recv(1000)
    assert got.startswith(b"stty rows ")
    if running:
        assert got.endswith(b"ls\x03")
    os.close(master)
