#!/bin/sh
# cma-cost [-p] [-k KIND,KIND] [-s SIZE,SIZE] [AREA]: what allocations of each size cost while 13/16
# of AREA are pages of each kind; all kinds and sizes by default.
#
# What is free, 3/16, is less than a quarter of the area: of an allocation as large as that, some
# must lie in the way, wherever it is. It is also enough: pages for movable use come from an area
# and from elsewhere in turns, so that as much is free outside, and both together have room for all
# that such an allocation may move (of 7/8 it would be all that is free, and the OOM killer came).
#
# For a guest whose clock counts instructions, started by its own init (CMA_RUN="cma-cost" on the
# kernel's command line), so that nothing from outside comes in. Prints KTAP: a case KIND-SIZE with
# the lines "# alloc: N ns", "# free: N ns" and "# handle: N", which counts the allocations of
# /dev/cma_test. Kinds are those of cma-occupy, "nothing", and "fragmented": every other 64 KiB of
# the first 8 MiB is another buffer. AREA is the default one's name: buffers come from
# /dev/cma_test.
#
# With -p each case is done once more, with probes in the kernel that cost something themselves, and
# says what they saw: ns inside isolate_migratepages_range(), reclaim_clean_pages_from_list() and
# migrate_pages() ("isolate", "discard", "migrate"), from the first of them to the end of the last
# ("contig", which is __alloc_contig_migrate_range()), in all ("whole"), how many pages were
# "discarded" and "migrated", and how many of the holder's are "absent" and "moved".
#
# Example: cma-cost -k nothing,anon -s 4K,1M linux,cma

probes=
kinds="nothing clean dirty anon mlock fragmented"
sizes="4K 16K 64K 256K 1M 4M 16M"
disk=/tmp/cost
tracing=/sys/kernel/tracing

fail() {
	echo "Bail out! cma-cost: $1"
	exit 1
}

while getopts pk:s: option; do
	case $option in
	p) probes=1 ;;
	k) kinds=$(echo "$OPTARG" | tr , ' ') ;;
	s) sizes=$(echo "$OPTARG" | tr , ' ') ;;
	*) fail "no such option" ;;
	esac
done
shift $((OPTIND - 1))
area=${1:-linux,cma}
shown=/sys/kernel/debug/cma/$area
[ -e "$shown" ] || shown=/sys/kernel/debug/cma/cma-$area # before 6.1
count=$(cat "$shown/count") || fail "no area $area"
held=$((count * 4096 / 16 * 13))

lean-zones || fail "lean-zones" # else the next case pays for what a case has freed

# Dirty pages are not written back for their number (domain_dirty_limits()) while memory is short:
# 7.3 had too little left for that.
echo $((count * 4096 * 2)) >/proc/sys/vm/dirty_bytes &&
	echo $((count * 4096)) >/proc/sys/vm/dirty_background_bytes || fail "the limits of dirty pages"

# A file system in memory, so that its disk takes instructions and no time of the host.
set -- /sys/block/zram*
if [ -e "$1" ]; then zram=${1##*/}; else zram=zram$(cat /sys/class/zram-control/hot_add) || fail zram; fi
disksize=$((held / 1048576 * 9 / 8))
[ $disksize -gt 64 ] || disksize=64
echo ${disksize}M >"/sys/block/$zram/disksize" && mke2fs -q -b 4096 -F "/dev/$zram" >/dev/null 2>&1 &&
	mkdir -p $disk && mount -t ext4 "/dev/$zram" $disk || fail "no ext4 on zram"
# Every block takes its memory now: what is written back later finds little that is free.
dd if=/dev/urandom of=$disk/file bs=64K 2>/dev/null # until the disk is full
sync
rm $disk/file || fail "no file"
insmod /lib/cma/cma_test.ko || fail "insmod"

handles() {
	cma-ctl list | sed 's/.*"handle": \([0-9]*\).*/\1/'
}

fragment() {
	n=0
	while [ $n -lt 128 ]; do
		cma-ctl alloc 64K >/dev/null || fail "fragmenting"
		n=$((n + 1))
	done
	for handle in $(handles); do
		[ $((handle % 2)) = 0 ] || cma-ctl free "$handle" >/dev/null
	done
}

begin() {
	case $1 in
	nothing) ;;
	fragmented) fragment ;;
	clean* | dirty) cma-occupy hold "$1" "$area" $held --file $disk/file >/dev/null ;;
	*) cma-occupy hold "$1" "$area" $held >/dev/null ;;
	esac || fail "$1"
}

end() {
	case $1 in
	nothing) ;;
	fragmented) for handle in $(handles); do cma-ctl free "$handle" >/dev/null; done ;;
	*) cma-occupy end >/dev/null ;;
	esac
}

set_probes() {
	for each in isolate:isolate_migratepages_range discard:reclaim_clean_pages_from_list \
		migrate:migrate_pages; do
		echo "p:cost/${each%:*}_in ${each#*:}" >>$tracing/kprobe_events &&
			echo "r:cost/${each%:*}_out ${each#*:} ret=\$retval:u32" \
				>>$tracing/kprobe_events || fail "no probe in ${each#*:}()"
	done
}

migrated() {
	sed -n 's/^pgmigrate_success //p' /proc/vmstat
}

# What the probes saw of this allocation, as lines of the case.
probe() {
	begin "$1"
	before=$(migrated)
	echo >$tracing/trace
	echo 1 >$tracing/events/cost/enable || fail "probes"
	said=$(cma-ctl cost "$2") || fail "cost $2, probed"
	echo 0 >$tracing/events/cost/enable
	echo "$said" | sed 's/.*"alloc_ns": \([0-9]*\),.*/    # whole: \1 ns/'
	echo "    # migrated: $(($(migrated) - before)) pages"
	awk '
	/ cma-ctl-|^cma-ctl-/ && match($0, /[0-9]+\.[0-9]+: (isolate|discard|migrate)_(in|out):/) {
		split(substr($0, RSTART, RLENGTH), part, /[.:_ ]+/)
		now = part[1] * 1000000 + (1 part[2]) - 1000000 # 012 is octal to busybox
		if (part[4] == "in") {
			if (!begun) begun = now
			entered = now
			next
		}
		spent[part[3]] += now - entered
		last = now
		if (part[3] == "discard") discarded += substr($0, index($0, "ret=") + 4)
	}
	END {
		print "    # isolate: " spent["isolate"] * 1000 " ns"
		print "    # discard: " spent["discard"] * 1000 " ns"
		print "    # migrate: " spent["migrate"] * 1000 " ns"
		print "    # contig: " (last - begun) * 1000 " ns"
		print "    # discarded: " discarded + 0 " pages"
	}' $tracing/trace
	case $1 in
	nothing | fragmented) ;;
	*) cma-occupy check | sed 's/.*"moved": \([0-9]*\), "absent": \([0-9]*\),.*/    # moved: \1 pages\n    # absent: \2 pages/' ;;
	esac
	end "$1"
}

cma-ctl cost 4K >/dev/null || fail "the first buffer" # what is set up once
[ -z "$probes" ] || set_probes

echo "KTAP version 1"
echo "1..$(echo "$kinds" | wc -w)"
number=0
for kind in $kinds; do
	number=$((number + 1))
	echo "    KTAP version 1"
	echo "    # Subtest: $kind"
	echo "    1..$(echo "$sizes" | wc -w)"
	case=0
	for size in $sizes; do
		case=$((case + 1))
		begin "$kind"
		said=$(cma-ctl cost "$size" 2>&1)
		failed=$?
		end "$kind"
		if [ $failed = 0 ]; then
			echo "$said" | sed 's/.*"alloc_ns": \([0-9]*\), "free_ns": \([0-9]*\), "handle": \([0-9]*\).*/    # alloc: \1 ns\n    # free: \2 ns\n    # handle: \3/'
			[ -z "$probes" ] || probe "$kind" "$size"
			echo "    ok $case $size"
		else
			echo "    not ok $case $size # $said"
		fi
	done
	echo "ok $number $kind"
done
echo "cma-cost: done"
