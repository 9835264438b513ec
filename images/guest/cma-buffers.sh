#!/bin/sh
# cma-buffers AREA [ROUNDS [LOOPS]]: whether all of AREA can be allocated while a file system's
# metadata, whose buffers the CPUs remember (fs/buffer.c, bh_lrus), lies in it. Prints JSON.
#
# At first ROUNDS times (5): an ext4 on a zram is mounted and listed while memory is short but in
# AREA, and then all of AREA is allocated. Tells the "pages" of metadata that lay there, in all, and
# how many of the rounds "failed".
#
# Then LOOPS times (300) all of AREA is allocated and freed, while another process drops the caches
# and lists the file system, time and again ("passes"). Tells how many of them "failed".
#
# Example: cma-buffers linux,cma

area=$1
rounds=${2:-5}
loops=${3:-300}
disk=/tmp/buffers

fail() {
	echo "cma-buffers: $1" >&2
	exit 1
}

cd /sys/kernel/debug/cma/*"$area" || fail "no area $area"
whole=$(cat count)

make_disk() {
	set -- /sys/block/zram*
	if [ -e "$1" ]; then zram=${1##*/}; else zram=zram$(cat /sys/class/zram-control/hot_add); fi
	mkdir -p $disk && echo 256M >"/sys/block/$zram/disksize" &&
		mke2fs -q -b 4096 -F "/dev/$zram" >/dev/null 2>&1 &&
		mount -t ext4 "/dev/$zram" $disk || fail "no ext4 on zram"
	folder=0
	while [ $folder -lt 60 ]; do
		mkdir $disk/$folder
		file=0
		while [ $file -lt 40 ]; do
			: >$disk/$folder/$file
			file=$((file + 1))
		done
		folder=$((folder + 1))
	done
	umount $disk
	echo 3 >/proc/sys/vm/drop_caches
}

take() {
	echo "$whole" >alloc && echo "$whole" >free
}

# The pages of AREA that are a user's, which is what metadata is to cma-snapshot.
in_use() {
	cma-snapshot --pages | sed -n "s/.*\"name\": \"$area\".*\"open\": {[^}]*\"movable\": \([0-9]*\).*/\1/p"
}

make_disk
failed=0
pages=0
for round in $(seq "$rounds"); do
	cma-occupy hold anon "$area" 1M --keep-short >/dev/null || fail "making memory short"
	mount -t ext4 "/dev/$zram" $disk && ls -lR $disk >/dev/null || fail "mounting"
	cma-occupy relax >/dev/null && cma-occupy end >/dev/null || fail "ending that"
	pages=$((pages + $(in_use)))
	ls -lR $disk >/dev/null # the last of them are remembered, on this CPU
	take 2>/dev/null || failed=$((failed + 1))
	umount $disk
done
echo "{\"tried\": $rounds, \"failed\": $failed, \"pages\": $pages}"

rm -f /tmp/buffers-stop /tmp/buffers-passes
cma-occupy hold anon "$area" 1M --keep-short >/dev/null || fail "making memory short"
mount -t ext4 "/dev/$zram" $disk || fail "mounting"
(
	while [ ! -e /tmp/buffers-stop ]; do
		echo 3 >/proc/sys/vm/drop_caches
		ls -lR $disk >/dev/null
		echo >>/tmp/buffers-passes
	done
) &
failed=0
for loop in $(seq "$loops"); do
	take 2>/dev/null || failed=$((failed + 1))
done
: >/tmp/buffers-stop
wait
cma-occupy end >/dev/null
umount $disk
echo "{\"tried\": $loops, \"failed\": $failed, \"passes\": $(wc -l </tmp/buffers-passes)}"
