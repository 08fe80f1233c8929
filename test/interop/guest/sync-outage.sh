# The volume is replicated synchronously and the cloud is away: what is written waits for it, for longer than the kernel lets a command wait, nothing fails, and
# every byte is there. Reads go on meanwhile.
set -e
echo "command timeout $(cat /sys/block/${DISK##*/}/device/timeout) s"
errors() { dmesg | grep -cE 'I/O error|Buffer I/O|EXT4-fs error' || true; }
mkfs.ext4 -q -F $DISK
mount -t ext4 $DISK /mnt
dd if=/dev/urandom of=/tmp/src bs=1M count=4 2>/dev/null
sum=$(sha256sum < /tmp/src)
{ cp /tmp/src /mnt/before && sync; } || fail "a write failed"
seconds=$(ask away)
start=$(cut -d. -f1 /proc/uptime)
dd if=$DISK of=/dev/null bs=4096 count=256 iflag=direct 2>/dev/null || fail "a read failed while the cloud was away"
{ cp /tmp/src /mnt/during && sync; } || fail "a write failed while the cloud was away"
took=$(($(cut -d. -f1 /proc/uptime) - start))
[ $took -ge $((seconds - 5)) ] || fail "the write was acked after $took s, without a cloud"
{ cp /tmp/src /mnt/after && sync; } || fail "a write failed when the cloud was back"
umount /mnt
[ "$(errors)" = 0 ] || { dmesg | tail -30; fail "the kernel saw I/O errors"; }
blockdev --flushbufs $DISK; echo 3 > /proc/sys/vm/drop_caches
e2fsck -fn $DISK > /tmp/fsck.log 2>&1 || { cat /tmp/fsck.log; fail "the file system is damaged"; }
mount -t ext4 $DISK /mnt
for name in before during after; do [ "$(sha256sum < /mnt/$name)" = "$sum" ] || fail "$name differs"; done
umount /mnt
say "the cloud was away for $seconds s; what was written then was acked after $took s; $(ask live) bytes are in the cloud"
