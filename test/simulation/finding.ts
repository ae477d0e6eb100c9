/** Something that must never happen did. */
export class Finding extends Error {
  override readonly name = "Finding";
}
