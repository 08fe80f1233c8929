import type { Disk } from '../base/disk.ts';
import { NodeDisk } from '../base/node-disk.ts';

/** The disk of an I/O thread: its part of the state directory. By itself, so that drills can bundle another one in its place. */
export function threadDisk(stateDir: string): Disk {
  return new NodeDisk(stateDir);
}
