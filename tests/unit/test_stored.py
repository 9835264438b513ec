"""The files of a stored guest: what counts of them, and what a copy of it is keyed by."""

import os

import pytest

from harness.guest.stored import Stored

MIB = 1 << 20


@pytest.fixture
def stored(tmp_path):
    found = Stored(tmp_path)
    with found.memory.open("wb") as file:
        file.truncate(64 * MIB)
        for at in (0, 16 * MIB, 63 * MIB):
            os.pwrite(file.fileno(), b"data" * 1024, at)
    found.state.write_bytes(b"state")
    found.console.write_bytes(b"Linux version")
    found.host_key.write_bytes(b"key")
    found.known.write_bytes(b"{}")
    return found


def test_every_file_counts(stored):
    seen = {stored.digest()}
    for path in (stored.state, stored.console, stored.host_key, stored.known):
        path.write_bytes(path.read_bytes() + b".")
        seen.add(stored.digest())
    assert len(seen) == 5


@pytest.mark.parametrize("at", [0, 16 * MIB + 4095, 63 * MIB + 7, 40 * MIB])
def test_every_byte_of_the_memory_counts(stored, at):
    before = stored.digest()
    with stored.memory.open("r+b") as file:
        os.pwrite(file.fileno(), b"!", at)
    assert stored.digest() != before


def test_so_does_where_it_lies_and_how_long_it_is(stored):
    seen = {stored.digest()}
    with stored.memory.open("r+b") as file:
        os.pwrite(file.fileno(), b"data" * 1024, 32 * MIB)
        seen.add(stored.digest())
        file.truncate(65 * MIB)
    seen.add(stored.digest())
    assert len(seen) == 3


def test_holes_are_not_read(stored):
    """With 512 GiB of them this would take minutes."""
    with stored.memory.open("r+b") as file:
        file.truncate(512 << 30)
    assert stored.digest()
