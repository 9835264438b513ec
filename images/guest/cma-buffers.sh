#!/bin/sh
# cma-buffers AREA [ROUNDS [LOOPS]]: whether all of AREA can be allocated while a file system's
# metadata, whose buffers the CPUs remember (fs/buffer.c, bh_lrus), lies in it. Prints JSON.
#
# At first ROUNDS times (5): an ext4 on a zram is mounted and listed while memory is short but in
# AREA, and then all of AREA is allocated. Tells the "pages" of metadata that lay there, in all, and
# how many of the rounds "failed".
#
# Then as often when directories were made there and ext4's journal has not committed that; in a
# third line behind a sync, in a fourth one when the journal is empty (fsfreeze has that done).
#
# Then LOOPS times (1000) all of AREA is allocated and freed, while another process drops the caches
# and lists the file system, time and again ("passes"). Tells how many of them "failed".
#
# Example: cma-buffers linux,cma

area=$1
rounds=${2:-5}
loops=${3:-1000}
disk=/tmp/buffers

fail() {
	echo "cma-buffers: $1" >&2
	exit 1
}

cd /sys/kernel/debug/cma/*"$area" || fail "no area $area"
whole=$(cat count)

# $2, with printf's escapes, to byte $1 of the disk.
put() {
	printf "$2" | dd of="/dev/$zram" bs=1 seek="$1" conv=notrunc 2>/dev/null || fail "writing"
}

# What tune2fs -j does, which busybox has not: /.journal is a file of 1024 zeroed blocks that begins
# with a superblock of jbd2's (fs/jbd2/journal.c: magic, type 4; block size, blocks, the first one,
# the first transaction), and ext4's superblock (at 1024) tells its inode and the feature.
make_journal() {
	{
		printf '\300\073\071\230\0\0\0\4\0\0\0\0\0\0\020\0\0\0\4\0\0\0\0\1\0\0\0\1'
		dd if=/dev/zero bs=1M count=4 2>/dev/null
	} | dd of=$disk/.journal bs=4096 count=1024 iflag=fullblock 2>/dev/null || fail "no journal"
	inode=$(stat -c %i $disk/.journal)
	umount $disk
	features=$(od -An -tu1 -j1116 -N1 "/dev/$zram") # the low byte of s_feature_compat
	put 1116 "\\$(printf %o $((features | 4)))"
	put 1248 "\\$(printf %o $((inode & 255)))\\$(printf %o $((inode >> 8)))" # s_journal_inum
}

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
	make_journal
	echo 3 >/proc/sys/vm/drop_caches
}

take() {
	echo "$whole" >alloc && echo "$whole" >free
}

# The pages of AREA that are a user's, which is what metadata is to cma-snapshot.
in_use() {
	cma-snapshot --pages | sed -n "s/.*\"name\": \"$area\".*\"open\": {[^}]*\"movable\": \([0-9]*\).*/\1/p"
}

# Mount the file system with options $1, and have its metadata lie in AREA, for what $2 does.
fill() {
	cma-occupy hold anon "$area" 1M --keep-short >/dev/null || fail "making memory short"
	mount -t ext4 -o "$1" "/dev/$zram" $disk && $2 || fail "mounting"
	cma-occupy relax >/dev/null && cma-occupy end >/dev/null || fail "ending that"
	pages=$((pages + $(in_use)))
}

list() {
	ls -lR $disk >/dev/null
}

change() {
	mkdir "$disk/new-$round" || return 1
	for each in $(seq 100); do
		mkdir "$disk/new-$round/$each" || return 1
	done
}

make_disk
failed=0
pages=0
for round in $(seq "$rounds"); do
	fill ro list # a time of access is a change
	list # the last of them are remembered, on this CPU
	take 2>/dev/null || failed=$((failed + 1))
	umount $disk
done
echo "{\"tried\": $rounds, \"failed\": $failed, \"pages\": $pages}"

failed=0
synced=0
empty=0
pages=0
for round in $(seq "$rounds"); do
	fill commit=600 change # seconds; nothing but a sync has the journal commit
	take 2>/dev/null || failed=$((failed + 1))
	sync
	take 2>/dev/null || synced=$((synced + 1))
	fsfreeze --freeze $disk && fsfreeze --unfreeze $disk || fail "freezing"
	take 2>/dev/null || empty=$((empty + 1))
	umount $disk
done
echo "{\"tried\": $rounds, \"failed\": $failed, \"pages\": $pages}"
echo "{\"tried\": $rounds, \"failed\": $synced}"
echo "{\"tried\": $rounds, \"failed\": $empty}"

rm -f /tmp/buffers-stop /tmp/buffers-passes
cma-occupy hold anon "$area" 1M --keep-short >/dev/null || fail "making memory short"
mount -t ext4 -o ro "/dev/$zram" $disk || fail "mounting"
(
	while [ ! -e /tmp/buffers-stop ]; do
		echo 3 >/proc/sys/vm/drop_caches
		list
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
