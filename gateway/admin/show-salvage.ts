import { formatSize } from '../base/size.ts';
import type { GatewayReport, Results } from './gateway-api.ts';
import { formatTable } from './output.ts';

/** One line of the status, where there is something. */
export function salvaged(files: GatewayReport['salvage']): string[] {
  if (files.length === 0) return [];
  const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
  const names = [...new Set(files.map(({ name, volume }) => name ?? volume ?? 'an unknown volume'))];
  return [
    `salvage   ${files.length} file${files.length === 1 ? '' : 's'} (${formatSize(bytes)}) with writes of ${names.join(', ')} that are in no version: farshore salvage list`,
  ];
}

export function salvageList(files: Results['salvage-list']): string {
  if (files.length === 0) return 'this gateway keeps no salvaged writes';
  const rows = files.map((file) => [
    file.name ?? file.volume ?? 'unknown',
    file.writes === undefined ? 'unknown' : String(file.writes),
    file.blocks === undefined ? 'unknown' : formatSize(file.blocks * 4096),
    file.epoch === undefined ? 'unknown' : String(file.epoch),
    file.file,
  ]);
  const problems = files.flatMap(({ problem }) => problem ?? []);
  return [formatTable(['volume', 'writes', 'written', 'epoch', 'file'], rows), ...problems].join('\n');
}

export function salvageExported(out: string, { file, n, tail, bytes }: Results['salvage-export']): string {
  const base = n === undefined ? 'only what was written' : `version ${n} and what was written after it`;
  return `${out} (${formatSize(bytes)}) has ${base}: ${formatSize((tail?.blocks ?? 0) * 4096)} from ${file}`;
}

export function salvageImported({ file, n, tail, volume }: Results['salvage-import']): string {
  const what = tail === undefined ? 'it had been imported before' : `${formatSize(tail.blocks * 4096)} from ${file}`;
  return `${volume.name} is version ${n ?? 'unknown'} and what was written after it (${what}); it is ${volume.state} at ${volume.target}. When it is no longer needed there: farshore salvage remove`;
}

export function salvageRemoved({ files }: Results['salvage-remove']): string {
  return `removed: ${files.join(', ')}`;
}
