"""A real board's reserved memory as a layout that boots on another board. Pure.

Memory is counted from its first byte, over holes, on both boards: what lies 100 MiB into the
memory of one lies there on the other. What does not fit is moved, made smaller or left out, and
each of these is a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from harness.config import MIB, Area, Carveout, Layout
from harness.layout import cmdline, early
from harness.layout.check import check
from harness.layout.ground import PMD, Ground, Kind, Span, merged
from harness.layout.realboard import RealBoard, Reservation
from harness.layout.room import nearest_place, size
from harness.layout.written import Imported, Note, printable_ascii

PAGE = 4096
_BLOCK_OF_ADDRESSES = 256 * MIB  # where the memory of boards begins, if the tree does not say
_SHRINK = 3, 4  # areas are made that much smaller until they fit
_ATTEMPTS = 24
_LONGEST_NAME = 31


def transplant(board: RealBoard, ground: Ground, name: str) -> Imported:
    """Return the board's areas and carveouts as a layout for the ground.

    The result has no error in `check`, unless the ground has no room for the smallest areas.
    """
    ground = ground.with_nodes(len(board.memreserve) + sum(map(_nodes, board.reservations)))
    scale = (1, 1)
    for _attempt in range(_ATTEMPTS):
        found = _Transplant(board, ground, scale).run(name)
        wrong = {
            finding.rule for finding in check(ground, found.layout) if finding.level == "error"
        }
        if not wrong & {"absurd-size", "no-room", "across-boundary"}:
            break
        scale = (scale[0] * _SHRINK[0], scale[1] * _SHRINK[1])
    return found


@dataclass
class _Transplant:
    """One attempt; `scale` is what sizes of areas are multiplied with."""

    board: RealBoard
    ground: Ground
    scale: tuple[int, int]
    notes: list[Note] = field(default_factory=list)
    taken: list[Span] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    devices: set[str] = field(default_factory=set)
    carved: int = 0  # bytes of all carveouts

    def run(self, name: str) -> Imported:
        self.taken = [region.span for region in self.ground.taken]
        self._memory_told()
        words = self._bootargs()
        wanted = [each for each in self.board.reservations if self._is_there(each)]
        areas = [each for each in wanted if each.is_area]
        areas = self._within_slots(self._without_bypassed(areas, words))
        # Static areas first: dynamic ones make room for them, as in the kernel.
        made = {each.path: self._area(each) for each in sorted(areas, key=lambda a: not a.spans)}
        carved = [carveout for each in wanted for carveout in self._carveouts(each)] + [
            *self._memreserve()
        ]
        kept = tuple(made[each.path] for each in areas)
        layout = Layout(
            name=name,
            description=f"The reserved memory of {printable_ascii(self.board.model)}",
            cmdline=self._default(kept, words),
            area=kept,
            carveout=tuple(carved),
        )
        return Imported(layout, tuple(self.notes))

    def _note(self, kind: Literal["kept", "changed", "left out"], about: str, text: str) -> None:
        self.notes.append(Note(kind, about, text))

    # The memory of both boards, counted from its first byte.

    def _ram(self) -> tuple[Span, ...]:
        if self.board.ram:
            return self.board.ram
        known = [span for each in self.board.reservations for span in (*each.spans, *each.ranges)]
        start = min((span.start for span in known), default=0)
        start = start // _BLOCK_OF_ADDRESSES * _BLOCK_OF_ADDRESSES
        end = max([start + self.ground.memory, *(span.end for span in known)])
        return merged([Span(start, end)])

    def _memory_told(self) -> None:
        banks = ", ".join(map(str, self._ram()))
        if not self.board.ram:
            self._note(
                "changed",
                "/memory",
                f"the tree has no memory (the boot loader fills it in): taken for {banks}",
            )
            return
        whole = sum(bank.size for bank in self.board.ram)
        if self.board.ram != self.ground.ram:
            self._note(
                "changed",
                "/memory",
                f"{size(whole)} at {banks}; {self.ground.board} has {size(self.ground.memory)} at "
                f"{', '.join(map(str, self.ground.ram))}: addresses are counted from there",
            )

    def _moved(self, address: int) -> int | None:
        """Return the address on the other board; None when there is no memory on this one."""
        depth = 0
        for bank in self._ram():
            if bank.start <= address <= bank.end:
                return self._at(depth + address - bank.start)
            depth += bank.size
        return None

    def _at(self, depth: int) -> int:
        """Return the address so many bytes into the other board's memory, or its end."""
        for bank in self.ground.ram:
            if depth < bank.size:
                return bank.start + depth
            depth -= bank.size
        return self.ground.ram[-1].end

    def _place(self, wanted: int, length: int, align: int) -> int | None:
        return nearest_place(self.ground, self.taken, wanted, length, align)

    # What of the tree is taken over.

    def _is_there(self, each: Reservation) -> bool:
        if not each.node.available:
            self._note("left out", each.path, f"status = {each.node.text('status')!r}")
            return False
        if not each.spans and each.size is None:
            self._note("left out", each.path, f"{each.kind} with neither 'reg' nor 'size'")
            return False
        if not each.is_area and not each.spans:
            self._note(
                "left out",
                each.path,
                f"{each.kind} of {size(each.size or 0)} that the kernel places: no area of CMA"
                + _users(each),
            )
            return False
        if each.is_area and not (each.spans[0].size if each.spans else each.size):
            self._note("left out", each.path, "its size is 0")
            return False
        if each.node.has("reusable") and each.node.has("no-map"):
            self._note("changed", each.path, "both 'reusable' and 'no-map': no area for the kernel")
        return True

    def _bootargs(self) -> str:
        words = []
        for word in self.board.bootargs.split():
            if word.startswith("vmalloc="):
                self._note("left out", "/chosen", f"{word}: low memory ends elsewhere here")
            elif word.startswith("cma="):
                asked = cmdline.cma(word)
                assert asked is not None
                kept = f"cma={size(self._sized(asked.size, '/chosen'))}" if asked.size else "cma=0"
                if kept != word:
                    self._note("changed", "/chosen", f"{word} became {kept}")
                words.append(kept)
        return " ".join(words[-1:])

    def _without_bypassed(self, areas: list[Reservation], words: str) -> list[Reservation]:
        defaults = [each for each in areas if each.is_default]
        for each in defaults[1:] if not words else defaults:
            why = "the kernel passes it over for 'cma='" if words else "there is a default area"
            self._note("left out", each.path, f"{why} (linux,cma-default)")
            areas = [other for other in areas if other is not each]
        return areas

    def _within_slots(self, areas: list[Reservation]) -> list[Reservation]:
        # One more for Kconfig's or the command line's, where no node is the default one.
        most = self.ground.kernel.slots - (not any(each.is_default for each in areas))
        for each in areas[most:]:
            self._note("left out", each.path, f"this kernel has {self.ground.kernel.slots} slots")
        return areas[:most]

    def _sized(self, wanted: int, about: str) -> int:
        """Return the size to have: scaled, and a multiple of a pageblock."""
        kernel = self.ground.kernel
        fitting = wanted * self.scale[0] // self.scale[1]
        if fitting < wanted:
            rounded = max(kernel.round_down(fitting), kernel.block)
        else:
            rounded = kernel.round_up(wanted)
        if rounded < wanted:
            self._note("changed", about, f"{size(wanted)} became {size(rounded)}, to fit")
        elif rounded > wanted:
            self._note(
                "changed",
                about,
                f"{size(wanted)} became {size(rounded)}: a pageblock has {size(kernel.block)}",
            )
        return rounded

    def _area(self, each: Reservation) -> Area:
        plain = {
            "name": self._name(each),
            "default": each.is_default,
            "device": None if each.is_default else self._device(each),
        }
        if each.is_default and each.users:
            self._note("changed", each.path, f"is the default area alone{_users(each)}")
        if each.spans:
            return self._static(each, plain)
        length = self._sized(each.size or 0, each.path)
        alignment = each.alignment
        if alignment and alignment & (alignment - 1):
            self._note("left out", each.path, f"alignment {alignment:#x}: no power of two")
            alignment = None
        if "@" in each.node.name:
            self._note("changed", each.path, "its unit address is left out: it has no 'reg'")
        where = {"alignment": alignment or None, "within": self._range(each, length)}
        return Area.model_validate(plain | {"size": length} | where)

    def _static(self, each: Reservation, plain: dict[str, object]) -> Area:
        span, block = each.spans[0], self.ground.kernel.block
        length = self._sized(span.size, each.path)
        wanted = self._moved(span.start)
        if wanted is None:
            self._note("changed", each.path, f"{span} is not in the board's memory")
            wanted = self.ground.ram[-1].end
        base = self._place(wanted, length, block)
        if base is None:
            self._note("changed", each.path, "there is no place: the kernel is to find one")
            return Area.model_validate(plain | {"size": length})
        self.taken.append(Span.of(base, length))
        why = "" if base == wanted else f", the nearest free place to {wanted:#x}"
        if base != span.start:
            self._note("changed", each.path, f"{span.start:#x} became {base:#x}{why}")
        if each.is_default and self.ground.kernel.static_late:
            self._note(
                "changed",
                each.path,
                "a range of its size for 'reg': this kernel sets "
                "static default nodes up after Kconfig's default area",
            )
            return Area.model_validate(plain | {"size": length, "within": (base, base + length)})
        return Area.model_validate(plain | {"size": length, "at": base})

    def _range(self, each: Reservation, length: int) -> tuple[int, int] | None:
        """Return the range of a dynamic area on the other board, if it has one with room."""
        whole = Span(self._ram()[0].start, self._ram()[-1].end)
        banks = self._ram()
        ranges = [span for span in each.ranges if any(span.overlaps(bank) for bank in banks)]
        for span in each.ranges:
            if span not in ranges:
                self._note("left out", each.path, f"alloc-ranges {span}: no memory is there")
        for span in ranges[1:]:
            self._note("left out", each.path, f"alloc-ranges {span}: a layout has one range")
        if not ranges:
            return None
        span = ranges[0]
        if whole.within(span):
            self._note("left out", each.path, f"alloc-ranges {span}: it is all memory")
            return None
        start, end = (
            self._moved(max(span.start, whole.start)),
            self._moved(min(span.end, whole.end)),
        )
        if start is None or end is None or end - start < length:
            self._note("left out", each.path, f"alloc-ranges {span}: too little of it is here")
            return None
        self._note("changed", each.path, f"alloc-ranges {span} became {Span(start, end)}")
        return start, end

    def _lowest(self, no_map: bool) -> int:
        """Where carveouts may begin: behind the kernel and what its first page tables take."""
        if not no_map:
            return 0
        kernel = [each.span.end for each in self.ground.taken if each.kind is Kind.KERNEL]
        return (max(kernel, default=0) + early.NEEDED) // PMD * PMD + PMD

    def _carveouts(self, each: Reservation) -> Iterator[Carveout]:
        spans = each.spans[1:] if each.is_area else each.spans
        if each.is_area and spans:
            self._note("changed", each.path, "the kernel makes an area of the first range in 'reg'")
        for span in spans:
            no_map = each.node.has("no-map")
            yield from self._carveout(span, each.path, self._name(each), each.kind, no_map)
        if each.users and not each.is_area:
            self._note("left out", each.path, f"{each.kind}: the memory stays away{_users(each)}")

    def _memreserve(self) -> Iterator[Carveout]:
        for span in self.board.memreserve:
            name = self._unique("memreserve", self.names)
            yield from self._carveout(span, "/memreserve/", name, "boot memory", False)

    def _carveout(
        self, span: Span, about: str, name: str, kind: str, no_map: bool
    ) -> Iterator[Carveout]:
        wanted = self._moved(span.start)
        if wanted is None or not span.size:
            self._note("left out", about, f"{kind} at {span}: not in the board's memory")
            return
        length = -(-span.size // PAGE) * PAGE
        if length * 4 > self.ground.memory:
            self._note("left out", about, f"{kind} of {size(length)}: too large here")
            return
        if (self.carved + length) * 2 > self.ground.memory:
            have = f"the others have {size(self.carved)} of {size(self.ground.memory)}"
            self._note("left out", about, f"{kind} of {size(length)}: {have}")
            return
        base = self._place(max(wanted, self._lowest(no_map)), length, PAGE)
        if base is None or base < self._lowest(no_map):
            self._note("left out", about, f"{kind} of {size(length)}: no place is left")
            return
        self.taken.append(Span.of(base, length))
        self.carved += length
        self._note("changed", about, f"{kind} at {span.start:#x} became a carveout at {base:#x}")
        yield Carveout(name=name, at=base, size=length, no_map=no_map)

    def _default(self, areas: Sequence[Area], words: str) -> str:
        if words or any(area.default for area in areas):
            return words
        wanted = self.ground.kernel.default_size(self.ground.memory)
        self._note(
            "changed",
            "the default area",
            "no node is it, and the board's kernel makes its own: "
            + (f"cma={size(wanted)} as this kernel's Kconfig has it" if wanted else "none here"),
        )
        return f"cma={size(wanted)}" if wanted else ""

    def _name(self, each: Reservation) -> str:
        wanted = re.sub(r"[^A-Za-z0-9,._+-]", "-", each.node.name.partition("@")[0])
        if not re.match(r"[A-Za-z]", wanted):
            wanted = f"node-{wanted}"
        name = self._unique(wanted[:_LONGEST_NAME], self.names)
        if name != each.node.name.partition("@")[0]:
            self._note("changed", each.path, f"is called {name}")
        return name

    def _device(self, each: Reservation) -> str | None:
        if not each.users:
            return None
        name = self._unique(f"cma-test-{each.node.name.partition('@')[0]}", self.devices)
        self._note("changed", each.path, f"the helper {name} has it{_users(each)}")
        return name

    def _unique(self, wanted: str, known: set[str]) -> str:
        name, number = re.sub(r"[^A-Za-z0-9,._+-]", "-", wanted)[:_LONGEST_NAME], 1
        while name in known or name == cmdline.DEFAULT_NAME:
            number += 1
            name = f"{wanted[: _LONGEST_NAME - 4]}-{number}"
        known.add(name)
        return name


def _nodes(each: Reservation) -> int:
    """How many areas and carveouts it may become."""
    return max(1, len(each.spans))


def _users(each: Reservation) -> str:
    return f"; on the board for {', '.join(each.users)}" if each.users else ""
