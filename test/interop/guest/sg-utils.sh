# sg3_utils agree with what the target says and does.
set -e
must() { "$@" > /tmp/sg.log 2>&1 || { cat /tmp/sg.log; fail "$*"; }; }
must_not() { if "$@" > /tmp/sg.log 2>&1; then cat /tmp/sg.log; fail "succeeded: $*"; fi; }
says() { grep -q "$1" /tmp/sg.log || { cat /tmp/sg.log; fail "no \"$1\""; }; }
same() { # FILE LBA BLOCKS: the disk has what the file has
  [ "$(dd if=$DISK bs=512 skip=$2 count=$3 iflag=direct 2>/dev/null | sha256sum)" = "$(sha256sum < $1)" ] || fail "blocks at $2 differ from $1"
}
must sg_inq $DISK; says 'Vendor identification'
for page in sv sn di bl lbpv bdc; do must sg_vpd --page=$page $DISK; done
must sg_vpd --page=sv $DISK; says 'Logical block provisioning'
must sg_vpd --page=bl $DISK; says 'Maximum compare and write length: 255'
must sg_vpd --page=lbpv $DISK; says 'Unmap command supported (LBPU): 1'
must sg_readcap --16 $DISK; says 'lbpme=1'
must sg_modes $DISK
must sg_opcodes $DISK; says 'Extended copy'; says 'Persistent reserve out'
must sg_luns $DISK
must sg_rtpg --decode $DISK; says 'active/optimized'
say "sg_inq, sg_vpd, sg_readcap, sg_modes, sg_opcodes, sg_luns, sg_rtpg agree"

dd if=/dev/urandom of=/tmp/a bs=512 count=64 2>/dev/null
dd if=/dev/zero of=/tmp/z bs=512 count=64 2>/dev/null
dd if=/dev/urandom of=/tmp/one bs=512 count=1 2>/dev/null
dd if=/tmp/a of=$DISK bs=512 seek=2048 oflag=direct conv=fsync 2>/dev/null
same /tmp/a 2048 64
status() { # LBA: 0 mapped, 1 deallocated (SBC: provisioning status of the first descriptor)
  must sg_get_lba_status --brief --lba=$1 $DISK; awk '/^0x/ { print $3; exit }' /tmp/sg.log
}
[ "$(status 2048)" = 0 ] || { cat /tmp/sg.log; fail "written blocks are not mapped"; }
must sg_unmap --lba=2048 --num=64 --force $DISK
same /tmp/z 2048 64
[ "$(status 2048)" = 1 ] || { cat /tmp/sg.log; fail "unmapped blocks are mapped"; }
say "sg_unmap: the blocks are gone and read as zeros"

must sg_write_same --16 --lba=4096 --num=64 --in=/tmp/one --xferlen=512 $DISK
i=0; : > /tmp/w; while [ $i -lt 64 ]; do cat /tmp/one >> /tmp/w; i=$((i+1)); done
same /tmp/w 4096 64
must sg_write_same --16 --unmap --lba=4096 --num=64 --in=/tmp/z --xferlen=512 $DISK
same /tmp/z 4096 64
must sg_write_same --10 --lba=4096 --num=64 --in=/tmp/one --xferlen=512 $DISK
same /tmp/w 4096 64
say "sg_write_same, with UNMAP too"

dd if=/tmp/one of=$DISK bs=512 seek=8192 oflag=direct conv=fsync 2>/dev/null
dd if=/tmp/a of=/tmp/new bs=512 count=1 2>/dev/null
cat /tmp/one /tmp/new > /tmp/pair
must sg_compare_and_write --in=/tmp/pair --lba=8192 --num=1 $DISK
same /tmp/new 8192 1
must_not sg_compare_and_write --in=/tmp/pair --lba=8192 --num=1 $DISK
same /tmp/new 8192 1
say "sg_compare_and_write: once it matches, then it does not"

dd if=/tmp/a of=$DISK bs=512 seek=12288 oflag=direct conv=fsync 2>/dev/null
dd if=/tmp/z of=$DISK bs=512 seek=16384 oflag=direct conv=fsync 2>/dev/null
sg=/dev/$(ls /sys/block/${DISK##*/}/device/scsi_generic)
must sg_xcopy if=$sg of=$sg bs=512 skip=12288 seek=16384 count=64 id_usage=hold
same /tmp/a 16384 64
say "sg_xcopy: the target has copied"

must sg_persist --in --report-capabilities $DISK; says 'PTPL_C): 1'
must sg_persist --out --register --param-sark=0xabc $DISK
must sg_persist --out --reserve --param-rk=0xabc --prout-type=3 $DISK
must sg_persist --in --read-reservation $DISK; says 'Exclusive Access'
must sg_persist --in --read-full-status $DISK; says 'abc'
must sg_persist --out --release --param-rk=0xabc --prout-type=3 $DISK
must sg_persist --out --register --param-rk=0xabc $DISK
must sg_persist --in --read-keys $DISK; says 'NO registered'
say "sg_persist: registered, reserved, read, released"
