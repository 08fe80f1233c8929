# Two sessions of two initiators share the LUN under a persistent reservation.
set -e
first=$DISK
iscsiadm -m iface -I second -o new > /dev/null
iscsiadm -m iface -I second -o update -n iface.initiatorname -v iqn.1993-08.org.debian:01:second > /dev/null
iscsiadm -m node -T "$TARGET" -p "$PORTAL" -I second -o new > /dev/null
iscsiadm -m node -T "$TARGET" -p "$PORTAL" -I second --login > /tmp/second.log 2>&1 || { cat /tmp/second.log; fail "the second session"; }
LUNS=2; find_disks || fail "no second disk"; LUNS=1
second=; for d in $DISKS; do [ $d = $first ] || second=$d; done
DISK=$first
say "two sessions: $first and $second"
writes() { dd if=/dev/zero of=$1 bs=4096 count=1 seek=100 oflag=direct conv=fsync > /tmp/dd.log 2>&1; }
reads() { dd if=$1 of=/dev/null bs=4096 count=1 skip=100 iflag=direct > /tmp/dd.log 2>&1; }
pr() { sg_persist "$@" > /tmp/pr.log 2>&1 || { cat /tmp/pr.log; fail "sg_persist $*"; }; }
writes $first; writes $second
pr --out --register --param-sark=0x1 $first
pr --out --register --param-sark=0x2 $second
pr --out --reserve --param-rk=0x1 --prout-type=1 $first          # Write Exclusive
writes $first || fail "the holder cannot write"
if writes $second; then fail "another wrote under Write Exclusive"; fi
reads $second || fail "another cannot read under Write Exclusive"
pr --out --release --param-rk=0x1 --prout-type=1 $first
pr --out --reserve --param-rk=0x1 --prout-type=6 $first          # Exclusive Access, registrants only
writes $second || fail "a registrant cannot write"
pr --out --register --param-rk=0x2 $second                       # gives its key up
if reads $second; then fail "one that is not registered any more can read"; fi
pr --out --register-ignore --param-sark=0x3 $second
pr --out --preempt --param-rk=0x3 --param-sark=0x1 --prout-type=5 $second   # takes over
if writes $first; then fail "the preempted one wrote"; fi
writes $second || fail "the one that took over cannot write"
pr --out --clear --param-rk=0x3 $second
reads $first || reads $first || fail "nothing is reserved any more, but the first cannot read"   # a unit attention may come first
writes $first || fail "nothing is reserved any more, but the first cannot write"
iscsiadm -m node -T "$TARGET" -p "$PORTAL" -I second --logout > /tmp/second.log 2>&1 || { cat /tmp/second.log; fail "the second logout"; }
iscsiadm -m node -T "$TARGET" -p "$PORTAL" -I second -o delete > /dev/null
find_disks
say "write exclusive, exclusive access for registrants, preempt and clear hold between two sessions"
