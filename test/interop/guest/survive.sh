# Files are written while the gateway is restarted, and later killed: open-iscsi recovers, the file system is clean, every byte is there.
set -e
while_writing() { # PID REQUEST: asked of the host while writes of the copy are on their way to the disk
  until read -r _ writes < /sys/block/${DISK##*/}/inflight && [ "$writes" -gt 0 ]; do
    kill -0 $1 2>/dev/null || fail "the copy was over before the gateway was"
  done
  ask $2
}
mkfs.ext4 -q -F $DISK
mount -t ext4 $DISK /mnt
dd if=/dev/urandom of=/tmp/src bs=1M count=16 2>/dev/null
sum=$(sha256sum < /tmp/src)
i=0
while [ $i -lt 6 ]; do
  { cp /tmp/src /mnt/copy$i && sync; } &
  copy=$!
  [ $i != 1 ] || while_writing $copy restart
  [ $i != 3 ] || while_writing $copy kill
  [ $i != 5 ] || while_writing $copy kill
  wait $copy || fail "copy $i"
  i=$((i+1))
done
umount /mnt
blockdev --flushbufs $DISK; echo 3 > /proc/sys/vm/drop_caches
e2fsck -fn $DISK > /tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; fail "the file system is damaged"; }
mount -t ext4 $DISK /mnt
i=0
while [ $i -lt 6 ]; do
  [ "$(sha256sum < /mnt/copy$i)" = "$sum" ] || fail "copy$i differs"
  i=$((i+1))
done
umount /mnt
say "six copies intact over a restart and two kills of the gateway"
