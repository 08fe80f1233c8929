import { performance } from 'node:perf_hooks';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { CancelTimer, Clock } from './clock.ts';

/** How often a thread is asked what it has done. */
const LOOK_MS = 5_000;
/** At rest for so many looks: then nobody is likely to come in the midst of it. */
const LOOKS_AT_REST = 3;
/** Shares of the time in which the thread did anything. */
const BUSY_SHARE = 0.1;
const REST_SHARE = 0.03;

/**
 * Collects the whole heap of this thread once, when it was busy and has been at rest since for 15 s. V8 does so only when somebody allocates: a gateway that has just taken
 * much and is left alone would keep what it held then, tens of MiB of heap and of buffers outside of it, for hours. Answers how to end it.
 * `utilization`: the share of the time since it was last asked in which the thread was not idle.
 */
export function collectAtRest(
  clock: Clock,
  utilization: () => number = threadUtilization(),
  collect: () => void = wholeCollection(),
): () => void {
  let wasBusy = false;
  let restful = 0;
  let cancel: CancelTimer;
  const look = (): void => {
    const share = utilization();
    if (share > BUSY_SHARE) wasBusy = true;
    restful = share < REST_SHARE ? restful + 1 : 0;
    if (wasBusy && restful >= LOOKS_AT_REST) {
      wasBusy = false;
      collect();
    }
    cancel = clock.startTimer(LOOK_MS, look);
  };
  cancel = clock.startTimer(LOOK_MS, look);
  return () => {
    cancel();
  };
}

function threadUtilization(): () => number {
  let before = performance.eventLoopUtilization();
  return () => {
    const now = performance.eventLoopUtilization();
    const { utilization } = performance.eventLoopUtilization(now, before);
    before = now;
    return utilization;
  };
}

/** V8's `gc`, which exists in contexts that are made after it was asked for. */
function wholeCollection(): () => void {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as (() => void) | undefined; // what the flag makes of it
  return gc ?? (() => undefined);
}
