// What the benchmark and the interop scripts need before they start: packages, build, Debian programs (--vm: the virtual
// machine's too; --ipsec: those of the test of IPsec).
import { build, checkNode, installDebianPackages, installPackages } from './setup.mjs';

checkNode();
installPackages();
build();
const has = (flag) => process.argv.includes(flag);
if (installDebianPackages({ vm: has('--vm'), ipsec: has('--ipsec') }).length > 0) process.exit(2);
