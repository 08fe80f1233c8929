import { existsSync } from 'node:fs';

/** Programs the interop tests run, and the Debian package each is in. */
const PACKAGES: Readonly<Record<string, string>> = {
  'iscsi-ls': 'libiscsi-bin',
  'iscsi-inq': 'libiscsi-bin',
  'iscsi-perf': 'libiscsi-bin',
  'iscsi-readcapacity16': 'libiscsi-bin',
  'iscsi-test-cu': 'libiscsi-bin',
  isnsd: 'open-isns-server',
  isnsadm: 'open-isns-utils',
  'qemu-img': 'qemu-utils and qemu-block-extra',
  'qemu-io': 'qemu-utils and qemu-block-extra',
};

export function isInstalled(program: string): boolean {
  return [...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin'].some((folder) =>
    existsSync(`${folder}/${program}`),
  );
}

/** Throws a sentence that names what to install. */
export function requireTools(...programs: readonly string[]): void {
  const missing = programs.filter((program) => !isInstalled(program));
  if (missing.length === 0) return;
  const packages = [...new Set(missing.map((program) => PACKAGES[program] ?? program))];
  throw new Error(`${missing.join(', ')} missing: install the Debian packages ${packages.join(', ')}`);
}
