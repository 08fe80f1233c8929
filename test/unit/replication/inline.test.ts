import { describe, expect, it } from 'vitest';
import { silentLog } from '../../../gateway/base/log.ts';
import { encodeFrame } from '../../../gateway/format/frame.ts';
import { encodeSegment } from '../../../gateway/format/segment-encode.ts';
import { VersionWriter } from '../../../gateway/replication/version-writer.ts';
import { blockOf, REF, RemoteWorld } from '../../support/remote-world.ts';

/** Puts a version whose payload lies in the version item, as a synchronous write will. */
async function putInline(
  world: RemoteWorld,
  writer: VersionWriter,
  writes: readonly (readonly [number, number])[],
): Promise<void> {
  const blocks = Float64Array.from(writes, ([block]) => block);
  const raw = Buffer.concat(writes.map(([block, value]) => blockOf(block, value)));
  const slot = writer.reserve();
  const { n, epoch, previousChain, logId, sealedAt } = slot;
  const seq = Number(n);
  const fields = { throughSeq: seq, newestWriteAt: sealedAt, volumeBytes: writer.item.bytes };
  const identity = {
    ...REF,
    number: 0,
    n,
    epoch,
    kind: 'write' as const,
    previousChain,
    logId,
    firstSeq: seq,
    sealedAt,
    ...fields,
  };
  const { pieces, crc32, digest } = encodeSegment(identity, blocks, [], [encodeFrame(raw, blocks, world.compression)]);
  const bytes = Buffer.concat(pieces);
  const payload = { kind: 'inline' as const, bytes: bytes.length, crc32, digest };
  const version = slot.seal({ kind: 'write', payload, blocks: blocks.length, bytes: bytes.length, ...fields }, bytes);
  version.markReady();
  await version.committed;
}

describe('inline payloads', () => {
  it('are read from memory, move into a segment when they are folded, and can be gone back to', async () => {
    const world = new RemoteWorld();
    const first = world.gateway();
    await first.open();
    await first.commit({
      writes: [
        [1, 1],
        [2, 2],
      ],
    });
    const writer = await VersionWriter.takeOver(
      { versions: world.versions, clock: world.clock, random: world.random, log: silentLog },
      { ref: REF, gateway: 'inline', logId: 'inline', onRestart: () => undefined, onRecord: () => undefined },
    );
    await putInline(world, writer, [
      [2, 22],
      [3, 33],
    ]);
    const through = writer.lastCommitted().n;
    await putInline(world, writer, [
      [3, 333],
      [9, 99],
    ]);
    writer.close();

    const gateway = world.gateway();
    const opened = await gateway.open();
    expect(opened.lastData).toMatchObject({ logId: 'inline', throughSeq: through + 1 });
    const expected = [0, 1, 22, 333, 0, 0, 0, 0, 0, 99];
    expect(await gateway.values(0, 10)).toEqual(expected);
    expect(await gateway.engine.verify()).toMatchObject({ verdict: 'pass', problems: [], blocks: 4 });

    await gateway.engine.rollBackTo(through);
    expect(await gateway.values(0, 10)).toEqual([0, 1, 22, 33, 0, 0, 0, 0, 0, 0]);
    const back = world.gateway();
    await back.open();
    await back.engine.rollBackTo(through + 1);
    expect(await back.values(0, 10)).toEqual(expected);

    await back.engine.fold();
    expect(await back.values(0, 10)).toEqual(expected);
    const cold = world.gateway();
    await cold.open();
    expect(await cold.values(0, 10)).toEqual(expected);
    expect(await cold.engine.verify()).toMatchObject({ verdict: 'pass', problems: [], blocks: 4 });
  });
});
