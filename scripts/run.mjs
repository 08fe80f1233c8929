// `npm run demo` (and friends) on a fresh clone: installs, builds, then runs the command line.
import { spawn } from 'node:child_process';
import { build, checkNode, installPackages } from './setup.mjs';

checkNode();
installPackages();
build();
const child = spawn(process.execPath, ['dist/farshore.js', ...process.argv.slice(2)], { stdio: 'inherit' });
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
child.on('close', (status, signal) => {
  process.exitCode = status ?? (signal === null ? 1 : 128);
});
