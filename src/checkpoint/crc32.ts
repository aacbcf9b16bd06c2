/** CRC-32 (IEEE 802.3, the one of gzip and PNG). Ours because Node 20's zlib has none before 20.15. */

// Slicing by four: table[k][b] is the CRC of byte b followed by k zero bytes.
const tables = Array.from({ length: 4 }, () => new Uint32Array(256));
for (let byte = 0; byte < 256; byte++) {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  tables[0]![byte] = crc;
}
for (let k = 1; k < 4; k++) {
  for (let byte = 0; byte < 256; byte++) {
    const previous = tables[k - 1]![byte]!;
    tables[k]![byte] = (previous >>> 8) ^ tables[0]![previous & 255]!;
  }
}

/** CRC-32 of `bytes`; pass the result of an earlier call as `crc` to go on from it. */
export function crc32(bytes: Uint8Array, crc = 0): number {
  const [t0, t1, t2, t3] = tables as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  let state = ~crc;
  let i = 0;
  for (const end = bytes.length - 3; i < end; i += 4) {
    state ^= bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24);
    state = t3[state & 255]! ^ t2[(state >>> 8) & 255]! ^ t1[(state >>> 16) & 255]! ^ t0[state >>> 24]!;
  }
  for (; i < bytes.length; i++) state = (state >>> 8) ^ t0[(state ^ bytes[i]!) & 255]!;
  return ~state >>> 0;
}
