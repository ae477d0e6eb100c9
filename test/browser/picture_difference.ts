import pixelmatch from "pixelmatch";
import { PNG } from "pngjs";

/**
 * Colours closer than this are the same, as a distance between black and white: twice what {@link forKeeping} changes.
 * Pixels of smoothed edges do not count.
 */
const COLOUR_TOLERANCE = 0.03;
/** In no square of so many pixels a side may more pixels differ. */
const SQUARE = 16;
/**
 * Chromium 150 and 156, each font hinting and both ways of rasterizing differ in no pixel, and what is kept from what was
 * drawn in 3; a letter that is another one differs in 32, a label that has moved by one pixel in 35.
 */
const MOST_IN_SQUARE = 12;
const KEPT_STEP = 8;

/** How two pictures differ; undefined when they count as the same. */
export interface PictureDifference {
  /** In words. */
  reason: string;
  /** The picture with what differs marked, as PNG; absent when sizes differ. */
  marked?: Buffer;
}

/** Compares two pictures with tolerance. Both are PNG. */
export function pictureDifference(actual: Buffer, expected: Buffer): PictureDifference | undefined {
  const [a, b] = [PNG.sync.read(actual), PNG.sync.read(expected)];
  const { width, height } = a;
  if (width !== b.width || height !== b.height) {
    return { reason: `it is ${width} by ${height} pixels, not ${b.width} by ${b.height}` };
  }
  const marked = new PNG({ width, height });
  const options = { threshold: COLOUR_TOLERANCE, windowSize: SQUARE };
  const worst = pixelmatch(a.data, b.data, marked.data, width, height, options);
  if (worst <= MOST_IN_SQUARE) return undefined;
  return { reason: `${worst} pixels differ in a square of ${SQUARE}`, marked: PNG.sync.write(marked) };
}

/**
 * The same picture in fewer bytes.
 * @param step colours are kept to so many steps of 256, which halves the bytes
 */
export function forKeeping(picture: Buffer, step = KEPT_STEP): Buffer {
  const png = PNG.sync.read(picture);
  for (let at = 0; at < png.data.length; at++) {
    const value = png.data[at] ?? 0;
    if (at % 4 !== 3) png.data[at] = Math.min(255, Math.round(value / step) * step);
  }
  return PNG.sync.write(png, { colorType: 2, filterType: 0, deflateLevel: 9, deflateStrategy: 0 });
}
