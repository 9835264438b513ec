"""Which sources make a program of the guest."""

from __future__ import annotations

from harness.image.initramfs import IMAGES, program_sources


def test_a_file_or_a_folder_is_a_program_and_all_have_lib(tmp_path):
    for name in ("one.c", "two/a.c", "two/b.c", "two/two.h", "lib/shared.c", "lib/shared.h"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = {
        name: [str(source.relative_to(tmp_path)) for source in sources]
        for name, sources in program_sources(tmp_path).items()
    }
    assert found == {
        "one": ["one.c", "lib/shared.c"],
        "two": ["two/a.c", "two/b.c", "lib/shared.c"],
    }


def test_the_programs_of_the_image_are_found():
    assert {"cma-ctl", "cma-case", "cma-snapshot", "cma-churn"} <= program_sources(
        IMAGES / "guest"
    ).keys()
