"""What is wrong with a layout on a board with a kernel, told before any boot. Pure.

An error means that the booted kernel would not have the areas that were asked for, or would not
boot; the item `layout` of a run would be red. A warning is about what works, but hardly as meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from harness.config import MIB, Area, Layout
from harness.layout import cmdline, early
from harness.layout.ground import Ground, Kind, Region, Span
from harness.layout.placing import Origin, Placed, place
from harness.layout.room import largest, nearest, size

# What the kernel needs of low memory outside of areas, besides a struct page (32 bytes) for each
# page and the initramfs. With 512 MiB and 6.7 of initramfs a guest that was left 27.7 MiB booted
# (6.12.117), one that was left 15.7 did not.
_NEEDED = 16 * MIB
_SCARCE = 64 * MIB


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: which rule, with what, the numbers, and what would be right."""

    level: Literal["error", "warning"]
    rule: str
    area: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        about = f"{self.area}: " if self.area else ""
        fix = f"; {self.fix}" if self.fix else ""
        return f"{self.level}: {about}{self.message}{fix}  [{self.rule}]"


@dataclass(frozen=True, slots=True)
class _Plan:
    ground: Ground
    layout: Layout
    append: str
    placed: tuple[Placed, ...]

    @property
    def parameter(self) -> cmdline.CmaParameter | None:
        return cmdline.cma(f"{self.layout.cmdline} {self.append}")

    def others(self, but: Placed) -> list[Span]:
        """Everything that has a place, without one of the areas."""
        spans = [region.span for region in self.regions()]
        return spans + [each.span for each in self.placed if each is not but and each.span]

    def nearest(self, each: Placed) -> str:
        """Say which place that an area could have is nearest to its own."""
        assert each.span
        return nearest(self.ground, self.others(each), each.span)

    def regions(self) -> tuple[Region, ...]:
        """What no area may lie over: the ground's regions and the layout's carveouts."""
        return self.ground.taken + carveouts(self.layout)


def carveouts(layout: Layout) -> tuple[Region, ...]:
    """Return the layout's carveouts as regions."""
    return tuple(
        Region(
            Kind.NO_MAP if each.no_map else Kind.RESERVED, each.node, Span.of(each.at, each.size)
        )
        for each in layout.carveout
    )


def check(ground: Ground, layout: Layout, append: str = "") -> tuple[Finding, ...]:
    """Return all that is wrong, errors first; `append` ends the kernel's command line."""
    plan = _Plan(ground, layout, append, place(ground, layout, append))
    found = [finding for rule in _RULES for finding in rule(plan)]
    return tuple(sorted(found, key=lambda finding: finding.level != "error"))


def _names(plan: _Plan) -> Iterator[Finding]:
    for name, count in Counter(area.name for area in plan.layout.area).items():
        if count > 1:
            yield Finding(
                "error",
                "name-twice",
                name,
                f"{count} areas have this name",
                f"call one of them {name}-2",
            )
    for area in plan.layout.area:
        if area.node == cmdline.DEFAULT_NAME and any(
            each.origin is not Origin.NODE for each in plan.placed
        ):
            yield Finding(
                "error",
                "name-twice",
                area.node,
                "the kernel gives this name to the default area that no node asks for",
                "choose another name",
            )


def _sizes(plan: _Plan) -> Iterator[Finding]:
    kernel, memory = plan.ground.kernel, plan.ground.memory
    for area in plan.layout.area:
        if not area.size:
            yield Finding(
                "error",
                "zero-size",
                area.node,
                "its size is 0",
                f"the smallest is {size(kernel.block)}",
            )
        elif area.size >= memory:
            yield Finding(
                "error",
                "absurd-size",
                area.node,
                f"it has {size(area.size)}, the board {plan.ground.board} has {size(memory)}",
            )
        elif area.size % kernel.block:
            below, above = kernel.round_down(area.size), kernel.round_up(area.size)
            either = f"{size(below)} or {size(above)}" if below else size(above)
            yield Finding(
                "error",
                "misaligned-size",
                area.node,
                f"its size {area.size:#x} ({size(area.size)}) is no multiple of a pageblock "
                f"({size(kernel.block)})",
                f"the nearest: {either}",
            )


def _bases(plan: _Plan) -> Iterator[Finding]:
    block = plan.ground.kernel.block
    for each in plan.placed:
        fixed = each.static or (each.origin is Origin.PARAMETER and each.span is not None)
        if fixed and each.span and each.span.start % block and _asked(plan, each):
            yield Finding(
                "error",
                "misaligned-base",
                each.name,
                f"its base {each.span.start:#x} is no multiple of a pageblock ({size(block)})",
                plan.nearest(each),
            )
    for area in plan.layout.area:
        if area.alignment and area.alignment & (area.alignment - 1):
            power = 1 << (area.alignment.bit_length() - 1)
            yield Finding(
                "error",
                "misaligned-base",
                area.node,
                f"its alignment {area.alignment:#x} is no power of two",
                f"the nearest: {size(power)} or {size(2 * power)}",
            )


def _asked(plan: _Plan, each: Placed) -> bool:
    """Whether the place of an area was asked for, and not found by the kernel."""
    parameter = plan.parameter
    return each.static or bool(each.origin is Origin.PARAMETER and parameter and parameter.fixed)


def _memory(plan: _Plan) -> Iterator[Finding]:
    ground = plan.ground
    for each in plan.placed:
        if each.span is None or not each.span.size:
            continue
        if not any(each.span.within(bank) for bank in ground.usable()):
            banks = ", ".join(map(str, ground.usable()))
            yield Finding(
                "error",
                "beyond-memory",
                each.name,
                f"{each.span} is not all memory, which is {banks}",
                plan.nearest(each),
            )
        high = ground.low_end < ground.usable()[-1].end
        if high and each.span.start < ground.low_end < each.span.end:
            chosen = "" if _asked(plan, each) else ", where the kernel will put it"
            yield Finding(
                "error",
                "across-boundary",
                each.name,
                f"{each.span}{chosen}, crosses the end of low memory at {ground.low_end:#x}",
                plan.nearest(each),
            )


def _overlaps(plan: _Plan) -> Iterator[Finding]:
    placed = [each for each in plan.placed if each.span]
    for one, other in combinations(placed, 2):
        assert one.span
        assert other.span
        if one.span.overlaps(other.span):
            yield _overlap(plan, other, f"area {one.name}", one.span)
    for each in placed:
        assert each.span
        for region in plan.regions():
            if each.span.overlaps(region.span):
                yield _overlap(plan, each, _called(region), region.span)
    yield from _carveouts(plan)


def _overlap(plan: _Plan, each: Placed, what: str, where: Span) -> Finding:
    assert each.span
    shared = min(each.span.end, where.end) - max(each.span.start, where.start)
    return Finding(
        "error",
        "overlap",
        each.name,
        f"{each.span} overlaps the {what} ({where}) in {size(shared)}",
        plan.nearest(each),
    )


def _called(region: Region) -> str:
    return region.name if region.kind in region.name else f"{region.kind} {region.name}"


def _carveouts(plan: _Plan) -> Iterator[Finding]:
    mine = carveouts(plan.layout)
    for carveout in mine:
        for other in (*plan.ground.taken, *mine):
            if other is not carveout and carveout.span.overlaps(other.span):
                yield Finding(
                    "error",
                    "overlap",
                    carveout.name,
                    f"the carveout {carveout.span} overlaps the {_called(other)} ({other.span})",
                )


def _early(plan: _Plan) -> Iterator[Finding]:
    """No-map regions so near the kernel that it finds no memory for its first page tables."""
    regions = plan.regions()
    areas = [each.span for each in plan.placed if each.span]
    left = early.room(plan.ground, regions, areas)
    if left >= early.NEEDED:
        return
    end = early.limit(plan.ground, regions)
    about = [each.name for each in regions if each.kind is Kind.NO_MAP and each.span.end > end]
    yield Finding(
        "error",
        "no-early-memory",
        about[0] if about else "",
        f"keeps the kernel's first page tables below {end:#x}, where {size(left)} are free",
        "let it begin and end at multiples of 2M, or lie higher",
    )


def _room(plan: _Plan) -> Iterator[Finding]:
    """Areas for which there is no place, in the range, or at all."""
    for each in plan.placed:
        parameter = each.origin is Origin.PARAMETER
        if not each.refusal or (each.area and not each.size):
            continue
        if parameter and each.span:
            # What else is wrong with the place has findings of its own.
            continue
        range_ = each.area.within if each.area else None
        where = f" in {Span(*range_)}" if range_ else ""
        yield Finding(
            "error",
            "no-room",
            each.name,
            f"no place for {size(each.size)}{where}: {each.refusal}",
            largest(plan.ground, plan.others(each), each.area),
        )


def _slots(plan: _Plan) -> Iterator[Finding]:
    kernel, placed = plan.ground.kernel, plan.placed
    if len(placed) <= kernel.slots:
        return
    beside = [each.name for each in placed if each.origin is not Origin.NODE]
    counted = f", one of them {beside[0]!r} ({_of(placed)})" if beside else ""
    yield Finding(
        "error",
        "too-many",
        _last_in_line(plan).name,
        f"{len(placed)} areas{counted}; this kernel has {kernel.slots} slots (CONFIG_CMA_AREAS)",
        f"leave out {len(placed) - kernel.slots}",
    )


def _of(placed: tuple[Placed, ...]) -> str:
    return next(each.origin for each in placed if each.origin is not Origin.NODE)


def _last_in_line(plan: _Plan) -> Placed:
    """Return the area that finds no slot: slots are given in the order of the set-up."""
    static = [each for each in plan.placed if each.static]
    others = [each for each in plan.placed if not each.static]
    late = plan.ground.kernel.static_late
    return ([*others, *static] if late else [*static, *others])[plan.ground.kernel.slots]


def _defaults(plan: _Plan) -> Iterator[Finding]:
    nodes = [area for area in plan.layout.area if area.default]
    for area in nodes[1:]:
        yield Finding(
            "error",
            "default-twice",
            area.node,
            f"{nodes[0].node} is the default area already",
            "give 'default = true' to one area",
        )
    if plan.parameter is not None:
        yield from _bypassed(plan, nodes)
        return
    wanted = next((each for each in plan.placed if each.origin is Origin.KCONFIG), None)
    if wanted is None:
        return
    extra = f"the kernel makes {wanted.name!r} of {size(wanted.size)} (CONFIG_CMA_SIZE_MBYTES)"
    static = next((area for area in nodes if area.at is not None), None)
    if static is not None:
        yield Finding(
            "error",
            "static-default",
            static.node,
            f"a static default node is set up too late for this kernel: before it {extra}",
            "let the kernel place it: 'within' instead of 'at'",
        )
    elif not nodes:
        yield Finding(
            "error",
            "no-default",
            wanted.name,
            f"no node is the default area, so {extra}",
            f'add a default area, or cmdline = "cma={size(wanted.size)}", or "cma=0" for none',
        )


def _bypassed(plan: _Plan, nodes: list[Area]) -> Iterator[Finding]:
    for area in nodes:
        yield Finding(
            "error",
            "bypassed-default",
            area.node,
            "'cma=' on the command line wins over the default node, whose memory the kernel frees"
            + ("" if area.at is not None else " while it is still being remapped"),
            "leave out one of the two",
        )
    asked = plan.parameter
    if asked and asked.size % plan.ground.kernel.block:
        yield Finding(
            "warning",
            "misaligned-size",
            cmdline.DEFAULT_NAME,
            f"cma= asks for {size(asked.size)}, which the kernel rounds up to "
            f"{size(plan.ground.kernel.round_up(asked.size))}",
        )


def _left(plan: _Plan) -> Iterator[Finding]:
    """What low memory is left to the kernel, which allocates nothing unmovable in an area."""
    ground = plan.ground
    low = [Span(bank.start, min(bank.end, ground.low_end)) for bank in ground.ram]
    whole = sum(max(span.size, 0) for span in low)
    spans = [each.span for each in plan.placed if each.span]
    spans += [region.span for region in plan.regions()]
    free = sum(
        max(0, min(span.end, ground.low_end) - span.start)
        for span in ground.free(spans)
        if span.start < ground.low_end
    )
    needed = _NEEDED + ground.memory // 128 + _packed(ground)
    if free < needed:
        level: Literal["error", "warning"] = "error"
        rest = f"it needs about {needed // MIB} MiB to boot"
    elif free < min(_SCARCE + needed, whole // 4):
        level, rest = "warning", "little for user space, the modules and the page cache"
    else:
        return
    yield Finding(
        level,
        "absurd-size",
        "",
        f"the areas leave the kernel {size(free)} of {size(whole)} low memory: {rest}",
        "make them smaller, or choose a board with more memory",
    )


def _packed(ground: Ground) -> int:
    """Return what the unpacked initramfs takes, in bytes."""
    return sum(region.span.size for region in ground.taken if region.name == "initrd")


_RULES: tuple[Callable[[_Plan], Iterator[Finding]], ...] = (
    _names,
    _sizes,
    _bases,
    _memory,
    _overlaps,
    _early,
    _room,
    _slots,
    _defaults,
    _left,
)
