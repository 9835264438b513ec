"""The run's keys, and the files of the guest they become."""

import base64
import struct

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from harness.guest.ssh import dropbear_key, make_keys


def strings(data):
    """Split ssh's length-prefixed strings."""
    out = []
    while data:
        (size,) = struct.unpack(">I", data[:4])
        out.append(data[4 : 4 + size])
        data = data[4 + size :]
    return out


def test_the_host_key_is_in_dropbear_s_format():
    name, both = strings(dropbear_key(Ed25519PrivateKey.generate()))
    assert name == b"ssh-ed25519"
    seed, public = both[:32], both[32:]
    assert Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() == public


def test_a_run_has_keys_of_its_own_that_fit_together(tmp_path):
    (one, files), (two, _) = make_keys(tmp_path / "one"), make_keys(tmp_path / "two")
    assert one.host != two.host
    assert one.authorized != two.authorized
    assert files["/root/.ssh/authorized_keys"].read_text() == one.authorized
    key = base64.b64decode(one.authorized.removeprefix("ssh-ed25519 "))
    assert strings(key)[1] == one.client.public_key().public_bytes_raw()
    private = files["/etc/dropbear/dropbear_ed25519_host_key"].read_bytes()
    assert strings(one.host) == [b"ssh-ed25519", strings(private)[1][32:]]


def test_private_keys_are_private(tmp_path):
    keys, files = make_keys(tmp_path / "keys")
    for path in files.values():
        assert path.stat().st_mode & 0o077 == 0
        assert keys.client.private_bytes_raw() not in path.read_bytes()
    assert (tmp_path / "keys").stat().st_mode & 0o077 == 0
