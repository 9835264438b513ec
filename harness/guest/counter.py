"""The plugin of QEMU's that counts a guest's instructions by what they are part of (counter.c).

What a guest with it does is the same to the instruction; it takes twice as long on the host.
"""

from __future__ import annotations

import re
from pathlib import Path

from harness.errors import BuildFailed, HostError
from harness.process import run

_SOURCE = Path(__file__).with_name("counter.c")
_FLAGS = ("-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-fvisibility=hidden")
_VERSION = re.compile(r"version (\d+)\.")
_API, _API_9 = 1, 2


def build(program: str, output: Path) -> Path:
    """Compile the plugin for the QEMU that `program` names to `output`, and return that.

    Since 9.0 QEMU asks for 2 at least ("plugins: remove non per_vcpu inline operation from API");
    7.2 takes 1 at most. What the plugin uses is the same.
    """
    said = run([program, "--version"]).output
    version = _VERSION.search(said)
    if version is None:
        raise HostError(f"no version in {said!r}", where=f"{program} --version")
    api = _API if int(version[1]) < 9 else _API_9
    run(["gcc", *_FLAGS, f"-DAPI={api}", "-o", output, _SOURCE], error=BuildFailed)
    return output


def options(plugin: Path, ranges: Path, output: Path) -> tuple[str, ...]:
    """Return the words for QEMU with which it counts; `ranges` and `output` as counter.c tells."""
    named = f"{plugin},ranges={ranges},output={output}"
    if named.count(",") != 2:
        raise HostError("a comma in the path of a plugin or its files", where=named)
    return ("-plugin", named)
