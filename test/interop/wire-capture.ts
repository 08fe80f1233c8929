import { deflateRawSync } from 'node:zlib';

/** What crossed the wire between two markers. */
export interface Phase {
  readonly name: string;
  /** Frames with a TCP payload to or from the port. */
  clearFrames: number;
  /** Frames that the port's side sent. */
  answers: number;
  espFrames: number;
  espBytes: number;
  /** All frames, for looking for patterns. */
  readonly bytes: Buffer[];
}

const MARKER_PORT = 9;

/**
 * Reads a capture (pcap, Ethernet) in which a UDP datagram to port 9 with the text `phase NAME` begins each phase. IPv4 only:
 * the tests use nothing else.
 */
export function readPhases(pcap: Buffer, port: number): Map<string, Phase> {
  if (pcap.readUInt32LE(0) !== 0xa1b2c3d4) throw new Error('not a little-endian pcap file');
  const phases = new Map<string, Phase>();
  let phase: Phase | undefined;
  for (let at = 24; at + 16 <= pcap.length;) {
    const length = pcap.readUInt32LE(at + 8);
    const frame = pcap.subarray(at + 16, at + 16 + length);
    at += 16 + length;
    if (frame.length < 34 || frame.readUInt16BE(12) !== 0x0800) continue;
    const headerBytes = (frame.readUInt8(14) & 15) * 4;
    const ip = frame.subarray(14, 14 + frame.readUInt16BE(16));
    const protocol = ip.readUInt8(9);
    const inner = ip.subarray(headerBytes);
    if (protocol === 17 && inner.readUInt16BE(2) === MARKER_PORT) {
      const name = /^phase (\S+)/.exec(inner.toString('latin1', 8))?.[1];
      if (name === undefined) continue;
      phase = { name, clearFrames: 0, answers: 0, espFrames: 0, espBytes: 0, bytes: [] };
      phases.set(name, phase);
      continue;
    }
    if (phase === undefined) continue;
    phase.bytes.push(inner);
    if (protocol === 50) {
      phase.espFrames += 1;
      phase.espBytes += inner.length;
    }
    if (protocol === 6 && (inner.readUInt16BE(0) === port || inner.readUInt16BE(2) === port)) {
      if (inner.length > (inner.readUInt8(12) >> 4) * 4) phase.clearFrames += 1;
      if (inner.readUInt16BE(0) === port) phase.answers += 1;
    }
  }
  return phases;
}

/** In how many frames the text occurs. */
export function countFrames(phase: Phase, text: string): number {
  return phase.bytes.filter((frame) => frame.includes(text, 0, 'latin1')).length;
}

/** By what share deflate makes the payload smaller: next to nothing if it is encrypted. */
export function compressibility(phase: Phase): number {
  const sample = Buffer.concat(phase.bytes.filter((frame) => frame.length > 512)).subarray(0, 4 * 1024 * 1024);
  return sample.length === 0 ? 0 : 1 - deflateRawSync(sample).length / sample.length;
}
