// A safetensors file: eight bytes with the header's length, a JSON header, the tensors' bytes.

// A page asks for maps as u8 and nothing else.
const ARRAYS = { U8: Uint8Array };

/** Whether the bytes may be safetensors: JSON begins with a brace, the length of a padded header never does. */
export function isSafetensors(buffer) {
  return buffer.byteLength >= 8 && new Uint8Array(buffer)[0] !== "{".charCodeAt(0);
}

/**
 * The file's metadata, and its tensors as views of the buffer: {metadata, tensors: {name: {shape, data}}}.
 * Throws an Error that says what is wrong with the bytes.
 */
export function readSafetensors(buffer) {
  const room = BigInt(buffer.byteLength) - 8n;
  const headerBytes = room < 0n ? 0n : new DataView(buffer).getBigUint64(0, true);
  if (headerBytes > room || room < 0n)
    throw new Error(`a header of ${headerBytes} bytes in a file of ${buffer.byteLength}`);
  const start = 8 + Number(headerBytes);
  const { __metadata__: metadata = {}, ...entries } = JSON.parse(
    new TextDecoder().decode(new Uint8Array(buffer, 8, start - 8)),
  );
  const tensors = {};
  for (const [
    name,
    {
      dtype,
      shape,
      data_offsets: [begin, end],
    },
  ] of Object.entries(entries)) {
    if (!Object.hasOwn(ARRAYS, dtype)) throw new Error(`tensor ${name} is ${dtype}, not one of ${Object.keys(ARRAYS)}`);
    const size = shape.reduce((product, length) => product * length, 1);
    const whole = Number.isSafeInteger(begin) && begin >= 0 && start + end <= buffer.byteLength;
    if (!whole || end - begin !== size * ARRAYS[dtype].BYTES_PER_ELEMENT) {
      throw new Error(`tensor ${name} of shape ${shape} does not lie at bytes ${begin} to ${end}`);
    }
    tensors[name] = { shape, data: new ARRAYS[dtype](buffer, start + begin, size) };
  }
  return { metadata, tensors };
}
