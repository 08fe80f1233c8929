import type { ByteCount } from '../base/units.ts';
import type { ObjectStore } from './object-store.ts';
import type { VersionLog } from './version-log.ts';

/** Calls and bytes since the start; repeats inside an adapter are not seen here. */
export interface CloudMeter {
  s3Put: number;
  s3Get: number;
  s3Other: number;
  dynamoWrite: number;
  dynamoRead: number;
  /** Bodies of objects, and data inside versions. */
  uploadedBytes: ByteCount;
  downloadedBytes: ByteCount;
}

export function newMeter(): CloudMeter {
  return { s3Put: 0, s3Get: 0, s3Other: 0, dynamoWrite: 0, dynamoRead: 0, uploadedBytes: 0, downloadedBytes: 0 };
}

/** Counts what passes to `store`. Lists are priced like puts by S3, but counted as other: they are no uploads. */
export function meteredObjectStore(store: ObjectStore, meter: CloudMeter): ObjectStore {
  return {
    put: (key, body, crc32) => {
      meter.s3Put += 1;
      for (const piece of body) meter.uploadedBytes += piece.length;
      return store.put(key, body, crc32);
    },
    get: async (key, range, urgency) => {
      meter.s3Get += 1;
      const content = await store.get(key, range, urgency);
      meter.downloadedBytes += content?.length ?? 0;
      return content;
    },
    head: (key) => {
      meter.s3Other += 1;
      return store.head(key);
    },
    list: (prefix, limit, startAfter) => {
      meter.s3Other += 1;
      return store.list(prefix, limit, startAfter);
    },
    delete: (keys) => {
      meter.s3Other += 1;
      return store.delete(keys);
    },
  };
}

/** Counts what passes to `log`, in requests. */
export function meteredVersionLog(log: VersionLog, meter: CloudMeter): VersionLog {
  const write = (requests = 1): VersionLog => {
    meter.dynamoWrite += requests;
    return log;
  };
  const read = (): VersionLog => {
    meter.dynamoRead += 1;
    return log;
  };
  return {
    getVolume: (ref) => read().getVolume(ref),
    createVolume: (item) => write().createVolume(item),
    listVolumes: (lineage) => read().listVolumes(lineage),
    raiseEpoch: (ref, from, to, owner) => write().raiseEpoch(ref, from, to, owner),
    changeVolume: (ref, epoch, changes) => write().changeVolume(ref, epoch, changes),
    raiseMaintenanceEpoch: (ref, from) => write().raiseMaintenanceEpoch(ref, from),
    publishCheckpoint: (ref, pointer) => write().publishCheckpoint(ref, pointer),
    raiseFloor: (ref, floor, maintenanceEpoch) => write().raiseFloor(ref, floor, maintenanceEpoch),
    removeVolume: (ref, epoch) => write().removeVolume(ref, epoch),
    getAccess: (ref) => read().getAccess(ref),
    putAccess: (ref, item) => write().putAccess(ref, item),
    removeAccess: (ref, epoch) => write().removeAccess(ref, epoch),
    putVersion: (volume, item, previousEpoch) => {
      meter.uploadedBytes += item.inline.length;
      return write().putVersion(volume, item, previousEpoch);
    },
    getVersion: (volume, n) => read().getVersion(volume, n),
    listVersions: (volume, from, limit) => read().listVersions(volume, from, limit),
    deleteVersions: (volume, ns) => write().deleteVersions(volume, ns),
    // The counter, then the ledger entry.
    allocateNumbers: (ref, epoch, count) => write(2).allocateNumbers(ref, epoch, count),
    claimName: (name, ref) => write().claimName(name, ref),
    resolveName: (name) => read().resolveName(name),
    rebindName: (name, from, to) => write().rebindName(name, from, to),
    releaseName: (name, ref) => write().releaseName(name, ref),
    listNames: () => read().listNames(),
    beat: (beat) => write().beat(beat),
    notify: (gateway, notice) => write().notify(gateway, notice),
    clearNotices: (gateway, notices) => write().clearNotices(gateway, notices),
  };
}
