/**
 * A shorter input of which the same holds: leaves out ever smaller pieces.
 * @param holds whether it is still so
 * @param tries at most so many inputs are tried
 * @param milliseconds for at most so long
 */
export async function minimize(
  input: Uint8Array,
  holds: (shorter: Uint8Array) => Promise<boolean>,
  tries: number,
  milliseconds = 20_000,
): Promise<Uint8Array> {
  let shortest = input;
  let left = tries;
  const end = performance.now() + milliseconds;
  for (let length = Math.ceil(input.length / 2); length >= 1; length = length === 1 ? 0 : Math.ceil(length / 2)) {
    for (let at = 0; at < shortest.length; ) {
      if (left-- <= 0 || performance.now() > end) return shortest;
      const shorter = Buffer.concat([shortest.subarray(0, at), shortest.subarray(at + length)]);
      if (await holds(shorter)) shortest = shorter;
      else at += length;
    }
  }
  return shortest;
}
