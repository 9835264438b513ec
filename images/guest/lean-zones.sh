#!/bin/sh
# lean-zones: from now on the kernel's zones keep back as few free pages as they can, so that what
# can be had of them is the same each time.
#
# Freed pages go to the free lists. On a CPU's own list, which may have tens of MiB since 6.7
# (51a755c56dc0, "mm: tune PCP high automatically"), they would be missing elsewhere: the OOM killer
# comes while they lie there, and an allocation of CMA's pays for their way back. Of a zone's pages
# a thousandth may lie there now, or four batches.
#
# When the kernel mixes movable and other pages in a block, it keeps another block of 4 MiB free for
# as long as it cannot reclaim it, and what is free in an area as well (1c30844d2dfe, "mm: reclaim
# small amounts of memory when an external fragmentation event occurs", 5.0): the OOM killer comes
# up to 10 MiB sooner, and earlier at one time than at another. It is told not to.
#
# Example: lean-zones && mem-take

fraction=/proc/sys/vm/percpu_pagelist_high_fraction
[ -e $fraction ] || fraction=/proc/sys/vm/percpu_pagelist_fraction # before 5.14, 74f44822097c
echo 1000 >$fraction && echo 0 >/proc/sys/vm/watermark_boost_factor
