"""How a guest is ended, by itself where its board can; and what a copy of one waits for."""

from __future__ import annotations

import pytest

from harness.errors import GuestTimeout
from harness.guest import guest as guests
from harness.guest.guest import Guest, Phases, Typed
from harness.guest.machine import Ending


class FakeMachine:
    """A QEMU that ends when its guest powers off or it is told to."""

    def __init__(self, done):
        self.done = done
        self.ending = None

    def ended(self, _timeout=0):
        if self.done[-1:] == ["typed poweroff -f"]:
            self.ending = Ending(0, "guest-shutdown")
        return self.ending

    def stop(self):
        self.ending = self.ending or Ending(0, "host-qmp-quit")


class FakeConsole:
    """A console that notes what it is given; `deaf` runs nothing."""

    def __init__(self, done, deaf=False):
        self.done = done
        self.deaf = deaf

    def send(self, data):
        self.done.append(f"typed {data.decode().split(chr(10))[-2]}")

    def run(self, command, _timeout):
        if self.deaf:
            raise GuestTimeout("no answer")
        self.done.append(f"ran {command}")

    def close(self):
        self.done.append("closed")


def end(power_off, deaf=False):
    done = []
    machine, console = FakeMachine(done), FakeConsole(done, deaf)
    ending = Guest(machine, console, None, Phases(0, 0, 0), power_off=power_off).power_off()
    return done, ending.reason


def test_a_board_that_can_powers_itself_off():
    assert end(power_off=True) == (["typed poweroff -f", "closed"], "guest-shutdown")


def test_one_that_cannot_is_ended_when_it_has_synced():
    assert end(power_off=False) == (["ran sync", "closed"], "host-qmp-quit")


@pytest.mark.parametrize("power_off", [True, False])
def test_a_deaf_guest_is_ended_all_the_same(power_off):
    done, reason = end(power_off, deaf=True)
    assert done[-1] == "closed"
    assert reason


@pytest.mark.parametrize("said", [b"~m+\n~m:0.\n", b"~m+\n"], ids=["at an end", "not yet"])
def test_ssh_waits_for_the_keys_that_were_typed_once(monkeypatch, said):
    """Nothing more is typed for it, and nothing consumed: others may be at the console."""
    come = [b"Linux version" + said]
    coming = [b"" if said.endswith(b".\n") else b"~m:0.\n"]

    class Copy(FakeConsole):
        def text(self, start):
            return b"".join(come)[start:]

        def check(self, _timeout=0):
            come.extend(coming)
            coming.clear()

    done = []
    machine = FakeMachine(done)
    machine.forwarded_port = lambda _port: 22
    monkeypatch.setattr(
        guests.Ssh, "connect", lambda *_args, **_more: done.append("connected") or 1
    )
    typed = Typed(b"~m", len(b"Linux version"))
    copy = Guest(machine, Copy(done), object(), Phases(0, 0, 0), typed=typed)
    assert copy.ssh is copy.ssh
    assert done == ["connected"]
    assert b"".join(come).endswith(b"~m:0.\n")
