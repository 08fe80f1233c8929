// What the benchmark and the interop scripts need before they start: packages, build, Debian programs (--vm: the virtual machine's too).
import { build, checkNode, installDebianPackages, installPackages } from './setup.mjs';

checkNode();
installPackages();
build();
if (installDebianPackages({ vm: process.argv.includes('--vm') }).length > 0) process.exit(2);
