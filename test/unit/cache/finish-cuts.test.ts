import { expect, test } from 'vitest';
import { Chunk } from '../../../gateway/cache/chunk.ts';
import { decodeChunkHeader } from '../../../gateway/cache/chunk-header.ts';
import { finishCuts } from '../../../gateway/cache/recover-tail.ts';
import { recordsOn } from '../../support/log-surgery.ts';
import { VolumeBench } from '../../support/volume-bench.ts';

const SLOTS = 384;

test('what lies behind a cut of earlier starts is destroyed durably, and nothing else', async () => {
  const bench = new VolumeBench({ chunkSlots: SLOTS });
  await bench.start();
  bench.shore.holdCommits = true;
  for (let seq = 1; seq <= 6; seq++) await bench.write(seq, seq, 2);
  await bench.flush();
  const { geometry } = bench.cache;
  const before = recordsOn(bench.disk, SLOTS);
  const number = before[0]?.volume ?? 0;
  const path = before[0]?.path ?? '';
  const port = bench.disk.mount({ alive: true, name: 'finisher' });
  const header = Buffer.alloc(4096);
  bench.disk.file(path)?.read(header, 0);
  const file = await bench.settle(port.open(path, 'write'));
  const chunk = new Chunk(0, file, decodeChunkHeader(header)?.generation ?? 0);

  await bench.settle(finishCuts([chunk], number, geometry, () => Infinity));
  await bench.settle(finishCuts([chunk], number + 1, geometry, () => 0));
  expect(recordsOn(bench.disk, SLOTS)).toEqual(before);

  await bench.settle(finishCuts([chunk], number, geometry, () => 4));
  bench.crash('power');
  expect(recordsOn(bench.disk, SLOTS)).toEqual(before.filter(({ seq }) => seq <= 4));
});
