import { ON_REMOTE_LOSS } from '../../gateway/cloud/version-log.ts';
import type { Replication } from '../../gateway/volume/replication-control.ts';
import type { BlockCount } from '../../gateway/base/units.ts';
import { chooseShape, type VolumeShape } from './areas.ts';
import { HEALTHY_CLOUD, type CloudFaults } from './sim-cloud.ts';
import type { SimRandom } from './sim-random.ts';
import type { WorkloadSettings } from './workload.ts';

/** What the troublemaker may do next. */
export type Trouble =
  | 'wait'
  | 'processCrash'
  | 'powerCut'
  | 'cleanStop'
  | 'takeover'
  | 'partition'
  | 'fold'
  | 'lambdaFold'
  | 'diskFull'
  | 'syncFails'
  | 'readFails'
  | 'writeFails'
  | 'noHandles'
  | 'badSectors'
  | 'bitsFlip'
  | 'lyingDisk'
  | 'slowDisk'
  | 'snapshot'
  | 'rollBackDisk'
  | 'runCopy'
  | 'loseGateway'
  | 'rollBackVolume';

/** Everything a seed decides before the first event. */
export interface Plan {
  readonly shape: VolumeShape;
  readonly gateways: number;
  readonly cloud: CloudFaults;
  readonly workload: WorkloadSettings;
  readonly steps: number;
  /** Longest pause between two steps. */
  readonly stepMs: number;
  readonly weights: Readonly<Record<Trouble, number>>;
  readonly rpoSeconds: number;
  readonly cacheChunks: number;
  readonly ramBlocks: number;
  readonly hydrate: boolean;
  /** Chance that the disk answers a call in the turn in which it was made. */
  readonly sameTurn: number;
  /** How long a write waits for space before it is refused. */
  readonly maxWaitMs: number;
  /** Segments in the log that make a gateway fold by itself. */
  readonly foldAtSegments: number;
  /** Dirty blocks that a volume keeps in memory; few make it read the log again. */
  readonly heldBlocks: number;
  /** Older versions that are restored at the end. */
  readonly versionSamples: number;
  /** `made`: the volume has an image from the first start on. `seeded`: it is made from an image that has something in it. */
  readonly image: 'none' | 'made' | 'seeded';
  /** Quotas in blocks: the first is there from the creation on, and it is changed to these and none. Empty: never any. */
  readonly quotas: readonly BlockCount[];
  /** What acks mean from the creation on; in some worlds it is changed now and then. */
  readonly replication: Replication;
  readonly remoteLossMs: number;
}

const CALM: Readonly<Record<Trouble, number>> = {
  wait: 4,
  processCrash: 3,
  powerCut: 3,
  cleanStop: 1,
  takeover: 2,
  partition: 1,
  fold: 2,
  lambdaFold: 2,
  diskFull: 0,
  syncFails: 0,
  readFails: 0,
  writeFails: 0,
  noHandles: 0,
  badSectors: 0,
  bitsFlip: 0,
  lyingDisk: 0,
  slowDisk: 0.5,
  snapshot: 0,
  rollBackDisk: 0,
  runCopy: 0,
  loseGateway: 1,
  rollBackVolume: 0.5,
};

const THEMES: readonly Partial<Record<Trouble, number>>[] = [
  {},
  { powerCut: 12, cleanStop: 0, takeover: 0 },
  { processCrash: 10 },
  { takeover: 10, partition: 5 },
  { diskFull: 4, noHandles: 2, slowDisk: 2 },
  { syncFails: 4, writeFails: 2, slowDisk: 2 },
  { readFails: 3, badSectors: 3 },
  { bitsFlip: 5, lyingDisk: 2 },
  { snapshot: 6, rollBackDisk: 4, runCopy: 3 },
  { fold: 8, lambdaFold: 8, loseGateway: 3 },
];

/** All of a seeded volume is read, and all of what is unmapped: few, but seldom more than a page of marks has, and a shard of the map. */
const STORED_BLOCKS = 3000;
const MANY_STORED_BLOCKS = 33_000;

/** One in so many worlds writes its small cache over and over. */
const CHURN_CHANCE = 0.01;
/** One in so many has a volume whose size changes. */
const RESIZE_CHANCE = 0.25;
/** One in so many has a quota. */
const QUOTA_CHANCE = 0.2;
/** One in so many is not replicated asynchronously, or not always. */
const MODES_CHANCE = 0.3;
/** And so many of a hundred have a stored volume. */
const STORED_CHANCE = 0.15;

export function makePlan(random: SimRandom): Plan {
  const modes = random.split('modes');
  const plan = makeAsyncPlan(random);
  return modes.chance(MODES_CHANCE) ? withModes(plan, modes) : plan;
}

/** Acks wait for versions, in half of these worlds not always; the cloud is away for longer than is put up with now and then. */
export function withModes(plan: Plan, random: SimRandom): Plan {
  const { workload } = plan;
  const isChanging = random.chance(0.5);
  return {
    ...plan,
    replication: { mode: random.pick(['sync', 'sync', 'flush']), onRemoteLoss: random.pick(ON_REMOTE_LOSS) },
    remoteLossMs: random.pick([100, 1000, 10_000]),
    workload: { ...workload, weights: { ...workload.weights, mode: isChanging ? 0.2 : 0 } },
    weights: { ...plan.weights, partition: Math.max(plan.weights.partition, 2) },
  };
}

function makeAsyncPlan(random: SimRandom): Plan {
  const mixed = makeMixedPlan(random.split('mixed'));
  const stored = random.split('stored');
  if (stored.chance(STORED_CHANCE)) return withImage(mixed, stored);
  const resizing = random.split('resize');
  const sized = resizing.chance(RESIZE_CHANCE) ? withResizes(mixed) : mixed;
  const quota = random.split('quota');
  const plan = quota.chance(QUOTA_CHANCE) ? withQuota(sized, quota) : sized;
  if (!random.chance(CHURN_CHANCE)) return plan;
  const churn = withChurn(plan, random.split('churn'));
  const kind = random.pick(['churn', 'moves', 'scans']);
  if (kind === 'churn') return churn;
  return kind === 'moves' ? withMoves(churn) : withScans(churn, random.split('scans'));
}

/** The volume is made smaller and larger all the time. */
export function withResizes(plan: Plan): Plan {
  const { workload } = plan;
  return { ...plan, workload: { ...workload, weights: { ...workload.weights, resize: 0.6 } } };
}

/** The volume has a quota below what is written, which is changed now and then. */
export function withQuota(plan: Plan, random: SimRandom): Plan {
  const { workload, shape } = plan;
  const written = shape.areas.reduce((sum, { blocks }) => sum + blocks, 0);
  const quotas = [0.3, 0.6, 0.9].map((share) => Math.ceil(share * written));
  const [low = 1, ...others] = quotas;
  const inOrder = random.chance(0.5) ? quotas : [...others, low];
  return { ...plan, quotas: inOrder, workload: { ...workload, weights: { ...workload.weights, quota: 0.2 } } };
}

/** Of a world with churn: areas are read from one end to the other, so that the volume reads ahead what is written meanwhile. */
export function withScans(plan: Plan, random: SimRandom): Plan {
  const { shape, workload } = plan;
  return {
    ...plan,
    shape: { ...shape, hotShare: 0.3 },
    hydrate: false,
    ramBlocks: random.pick([0, 256]),
    weights: { ...plan.weights, takeover: 10 },
    workload: { ...workload, weights: { ...workload.weights, scan: 1 } },
  };
}

/** Of a world with churn: a cache so large that reclaim moves on what is used, and so many reads that something is. */
export function withMoves(plan: Plan): Plan {
  const { workload } = plan;
  return {
    ...plan,
    cacheChunks: 9,
    workload: { ...workload, eagerCalls: 2500, weights: { ...workload.weights, read: 8 } },
  };
}

/** The volume has an image on site; in half of these worlds the cloud is away so much that the log overflows into it. */
export function withImage(plan: Plan, random: SimRandom): Plan {
  const image = random.pick(['made', 'made', 'seeded'] as const);
  const blocks = random.chance(0.03) ? MANY_STORED_BLOCKS : STORED_BLOCKS;
  const areas = [
    { firstBlock: 0, blocks: random.between(4, 24) },
    { firstBlock: 1000, blocks: random.between(10, 32) },
    { firstBlock: blocks - 8, blocks: 8 },
  ];
  const shape = { ...plan.shape, blocks, areas };
  const weights = { ...plan.weights, cleanStop: 2, loseGateway: 0.3 };
  // How it is resized, crash by crash: test/unit/volume/stored-resize.test.ts.
  const workload = { ...plan.workload, weights: { ...plan.workload.weights, resize: 0 } };
  const stored = { ...plan, image, shape, workload, weights, versionSamples: 5 };
  return random.chance(0.5) ? withOverflow(stored, random) : stored;
}

/** More is written, while the cloud is away, than the log can keep. */
export function withOverflow(plan: Plan, random: SimRandom): Plan {
  const { shape, workload } = plan;
  const areas = [
    { firstBlock: 0, blocks: 24 },
    { firstBlock: 1000, blocks: 160 },
  ];
  return {
    ...plan,
    shape: { ...shape, areas, hotShare: 0.7, smallShare: 0.2 },
    workload: { ...workload, workers: 4, thinkMs: 5, eagerCalls: 1000, mostBlocks: 24 },
    weights: { ...plan.weights, partition: 6, wait: 6 },
    steps: 6,
    stepMs: 3000,
    cacheChunks: random.pick([5, 6]),
    ramBlocks: random.pick([0, 16]),
  };
}

/** Much is written, read back from the cloud and dropped again, so that chunks are reclaimed all the time. */
export function withChurn(plan: Plan, random: SimRandom): Plan {
  const { shape, workload } = plan;
  const areas = [
    { firstBlock: 0, blocks: 24 },
    { firstBlock: 1000, blocks: 200 },
  ];
  return {
    ...plan,
    shape: { ...shape, areas, hotShare: 0.85, smallShare: 0.2 },
    workload: {
      ...workload,
      workers: 4,
      thinkMs: 3,
      eagerCalls: 1500,
      mostBlocks: 24,
      weights: { ...workload.weights, read: 4, write: 10, unmap: 0.5, wideUnmap: 0 },
    },
    stepMs: 3000,
    steps: 4,
    weights: { ...CALM, processCrash: 10, wait: 4, takeover: 3 },
    rpoSeconds: 0.2,
    cacheChunks: 5,
    ramBlocks: random.pick([0, 16]),
    foldAtSegments: 256,
    hydrate: true,
  };
}

function makeMixedPlan(random: SimRandom): Plan {
  const cloudTrouble = random.pick([0, 0, 0.02, 0.08]);
  const some = (): number => (random.chance(0.6) ? cloudTrouble * random.fraction() : 0);
  const busy = random.chance(0.3);
  return {
    shape: chooseShape(random),
    gateways: random.pick([1, 2, 2, 3]),
    cloud: {
      ...HEALTHY_CLOUD,
      delayMs: random.pick([1, 4, 4, 30]),
      errorBefore: some() * 2,
      lostResponse: some() * 2,
      lateEffect: some(),
    },
    workload: {
      workers: random.between(1, 6),
      eagerCalls: random.pick([30, 100, 300]),
      thinkMs: busy ? 2 : random.pick([20, 60, 200]),
      mostBlocks: random.pick([1, 4, 16]),
      weights: {
        scan: 0,
        resize: 0,
        quota: 0,
        mode: 0,
        read: random.pick([2, 6]),
        write: 10,
        fua: random.pick([0, 1]),
        zero: random.pick([0, 0.3]),
        unmap: random.pick([0, 2]),
        wideUnmap: random.pick([0, 0.3]),
        flush: random.pick([0.3, 2]),
        flushRemote: random.pick([0, 0.3, 1]),
      },
    },
    steps: random.between(3, 9),
    stepMs: busy ? random.pick([50, 300]) : random.pick([300, 3000]),
    weights: { ...CALM, ...random.pick(THEMES) },
    rpoSeconds: random.pick([0.2, 1, 5]),
    cacheChunks: random.pick([4, 6, 10]),
    ramBlocks: random.pick([0, 16, 256]),
    hydrate: random.chance(0.5),
    sameTurn: random.pick([0, 0, 0.5, 1]),
    maxWaitMs: random.pick([500, 20_000]),
    foldAtSegments: random.pick([3, 8, 256]),
    versionSamples: 2,
    heldBlocks: random.pick([8, 65_536]),
    image: 'none',
    quotas: [],
    replication: { mode: 'async', onRemoteLoss: 'block' },
    remoteLossMs: 10_000,
  };
}
