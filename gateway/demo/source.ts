import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { cp, mkdir, open, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { FarshoreError } from '../base/errors.ts';
import { MIB } from '../base/units.ts';

export interface SourceImage {
  readonly path: string;
  readonly description: string;
}

/** Share of an ext4 image that is filled with files; the rest is its own structures and slack. */
const FILL = 0.75;

/** What may stay unused: measuring every package to fill the last bit would take longer than the demo. */
const ENOUGH = 0.05;

/**
 * Real data to write: an ext4 filesystem holding installed npm packages where mke2fs exists, a tar stream of them otherwise;
 * exactly `megabytes` long.
 */
export async function makeSourceImage(folder: string, megabytes: number, packagesFolder: string): Promise<SourceImage> {
  const path = join(folder, 'source.img');
  const mke2fs = ['/usr/sbin/mke2fs', '/sbin/mke2fs'].find((program) => spawnSync(program, ['-V']).status === 0);
  if (mke2fs === undefined) {
    const tar = await tarStream(path, megabytes, packagesFolder);
    return { path, description: tar };
  }
  const tree = join(folder, 'tree');
  const packages = await copyPackages(packagesFolder, tree, megabytes * MIB * FILL);
  const made = spawnSync(mke2fs, ['-q', '-t', 'ext4', '-d', tree, path, `${megabytes}M`], { encoding: 'utf8' });
  await rm(tree, { recursive: true, force: true });
  if (made.status !== 0)
    throw new FarshoreError('input', `mke2fs could not make the demo's filesystem: ${made.stderr.trim()}`);
  return { path, description: `an ext4 filesystem with ${packages} installed npm packages` };
}

/** Copies whole packages until `bytes` are reached; returns how many. */
async function copyPackages(from: string, to: string, bytes: number): Promise<number> {
  await mkdir(to, { recursive: true });
  let left = bytes;
  let copied = 0;
  for (const name of await packagesOf(from)) {
    if (left < bytes * ENOUGH) break;
    const size = await sizeOf(join(from, name));
    if (size > left) continue;
    await mkdir(dirname(join(to, name)), { recursive: true });
    await cp(join(from, name), join(to, name), { recursive: true, verbatimSymlinks: true });
    left -= size;
    copied++;
  }
  return copied;
}

async function packagesOf(folder: string): Promise<string[]> {
  const names: string[] = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    if (!entry.isDirectory() || entry.name.startsWith('.')) continue;
    if (!entry.name.startsWith('@')) names.push(entry.name);
    else for (const scoped of await readdir(join(folder, entry.name))) names.push(`${entry.name}/${scoped}`);
  }
  return names.sort();
}

async function sizeOf(folder: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    // A file takes whole blocks on the filesystem, and an inode.
    if (entry.isFile()) bytes += Math.ceil((await stat(join(entry.parentPath, entry.name))).size / 4096) * 4096 + 512;
  }
  return bytes;
}

/** A tar of the packages, repeated or cut to length. */
async function tarStream(path: string, megabytes: number, packagesFolder: string): Promise<string> {
  const tar = spawn('tar', ['-c', '-C', packagesFolder, '.'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const bytes = megabytes * MIB;
  let written = 0;
  const out = createWriteStream(path);
  try {
    for await (const piece of tar.stdout as AsyncIterable<Buffer>) {
      const part = piece.subarray(0, bytes - written);
      written += part.length;
      if (!out.write(part)) await once(out, 'drain');
      if (written === bytes) break;
    }
  } catch (error) {
    throw new FarshoreError('input', 'the demo needs mke2fs or tar to make its data; install e2fsprogs', {
      cause: error,
    });
  } finally {
    tar.kill('SIGKILL');
  }
  out.end();
  await once(out, 'finish');
  const file = await open(path, 'r+');
  await file.truncate(bytes);
  await file.close();
  return 'a tar stream of installed npm packages';
}
