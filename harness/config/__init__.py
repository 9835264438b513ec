"""The only reader of TOML: kernels, boards, layouts and others as frozen values.

A mistake in a file raises `ConfigError` with the file, the key and the nearest valid key.
Names are looked up in configs/; a path to a .toml file (for a kernel: to a source tree) is
taken as it is.
"""

from harness.config.boards import Board, KernelTree, load_board
from harness.config.coverage import Coverage, CoveredFile, Reason, load_coverage
from harness.config.defects import Defect, load_defects
from harness.config.departed import load_departed
from harness.config.families import Family, Userland, load_family
from harness.config.kernels import (
    PLAIN,
    Kernel,
    Variant,
    edited,
    kernel_names,
    load_kernel,
    variants,
)
from harness.config.layouts import Area, Carveout, Layout, load_layout
from harness.config.mutants import Mutant, load_mutants
from harness.config.nightly import Nightly, Part, load_nightly
from harness.config.patches import Patch, patch_files, patches_for
from harness.config.reading import CONFIGS, names, read_toml, require_known
from harness.config.recipe import Recipe, load_recipe
from harness.config.values import MIB, parse_size
from harness.config.versions import numbers

__all__ = [
    "CONFIGS",
    "MIB",
    "PLAIN",
    "Area",
    "Board",
    "Carveout",
    "Coverage",
    "CoveredFile",
    "Defect",
    "Family",
    "Kernel",
    "KernelTree",
    "Layout",
    "Mutant",
    "Nightly",
    "Part",
    "Patch",
    "Reason",
    "Recipe",
    "Userland",
    "Variant",
    "edited",
    "kernel_names",
    "load_board",
    "load_coverage",
    "load_defects",
    "load_departed",
    "load_family",
    "load_kernel",
    "load_layout",
    "load_mutants",
    "load_nightly",
    "load_recipe",
    "names",
    "numbers",
    "parse_size",
    "patch_files",
    "patches_for",
    "read_toml",
    "require_known",
    "variants",
]
