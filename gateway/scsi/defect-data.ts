import type { ReadDefectData } from './cdb.ts';
import { parameterData } from './result.ts';
import type { ScsiResult } from './result.ts';

/**
 * READ DEFECT DATA (10), (12): SBC-3. A virtual disk has neither primary nor grown defects: the lists are valid and
 * empty, in whatever format they are asked for.
 */
export function readDefectData(command: ReadDefectData): ScsiResult {
  const header = Buffer.alloc(command.twelve ? 8 : 4);
  header[1] = command.lists | command.format;
  return parameterData(header, command.allocationLength);
}
