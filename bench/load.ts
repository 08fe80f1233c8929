/** The load generator's process: takes one request at a time over IPC and answers with figures. */
import { describeError } from '../gateway/base/errors.ts';
import { Initiator } from '../gateway/initiator/initiator.ts';
import { LoadGenerator, fill } from './generator.ts';
import type { LoadRequest, LoadResult } from './generator.ts';

export interface Portal {
  readonly host: string;
  readonly port: number;
  readonly target: string;
  readonly lun: number;
}

export type LoadOrder =
  | { readonly kind: 'fill'; readonly portal: Portal; readonly lunBytes: number; readonly ioBytes: number }
  | {
      readonly kind: 'run';
      readonly portal: Portal;
      readonly request: Omit<LoadRequest, 'sectorSize'>;
    };

export type LoadAnswer =
  | { readonly kind: 'result'; readonly result: LoadResult | undefined }
  | { readonly kind: 'failed'; readonly message: string };

async function obey(order: LoadOrder): Promise<LoadResult | undefined> {
  const { portal } = order;
  const sectorSize = await sectorSizeOf(portal);
  switch (order.kind) {
    case 'fill':
      await fill(portal, order.lunBytes, sectorSize, order.ioBytes);
      return undefined;
    case 'run':
      return await new LoadGenerator({ ...order.request, sectorSize }).run(portal);
  }
}

async function sectorSizeOf(portal: Portal): Promise<number> {
  const disk = await Initiator.connect(portal);
  try {
    return (await disk.readCapacity()).sectorSize;
  } finally {
    await disk.close();
  }
}

process.on('message', (order: LoadOrder) => {
  obey(order).then(
    (result) => {
      answer({ kind: 'result', result });
    },
    (error: unknown) => {
      answer({ kind: 'failed', message: describeError(error) });
    },
  );
});
process.on('disconnect', () => {
  process.exit(0);
});

function answer(message: LoadAnswer): void {
  process.send?.(message);
}
