import {
  VFIO_IRQ_SET_ACTION_MASK,
  VFIO_IRQ_SET_ACTION_TRIGGER,
  VFIO_IRQ_SET_ACTION_UNMASK,
  VFIO_IRQ_SET_DATA_BOOL,
  VFIO_IRQ_SET_DATA_EVENTFD,
  VFIO_IRQ_SET_DATA_NONE,
} from "./constants.js";
import { VfioError } from "./error.js";

/** Bytes of `struct vfio_irq_set` without its data. */
export const IRQ_SET_SIZE = 20;

export type IrqAction = "mask" | "unmask" | "trigger";

/** What an {@link IrqSet} carries for its interrupts. Descriptors travel beside the structure. */
export type IrqSetData = { kind: "none" } | { kind: "bool"; values: boolean[] } | { kind: "eventfd" };

/** `struct vfio_irq_set`: one action on `count` interrupts of one kind, from `start` on. */
export interface IrqSet {
  index: number;
  start: number;
  /** 0 with data "none" and action "trigger" disables all interrupts of the index. */
  count: number;
  action: IrqAction;
  data: IrqSetData;
}

const ACTIONS = {
  mask: VFIO_IRQ_SET_ACTION_MASK,
  unmask: VFIO_IRQ_SET_ACTION_UNMASK,
  trigger: VFIO_IRQ_SET_ACTION_TRIGGER,
};
const DATA = { none: VFIO_IRQ_SET_DATA_NONE, bool: VFIO_IRQ_SET_DATA_BOOL, eventfd: VFIO_IRQ_SET_DATA_EVENTFD };
const ACTION_MASK = VFIO_IRQ_SET_ACTION_MASK | VFIO_IRQ_SET_ACTION_UNMASK | VFIO_IRQ_SET_ACTION_TRIGGER;
const DATA_MASK = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_DATA_BOOL | VFIO_IRQ_SET_DATA_EVENTFD;

/** The structure without descriptors. */
export function encodeIrqSet(set: IrqSet): Uint8Array {
  const values = set.data.kind === "bool" ? set.data.values : [];
  const bytes = new Uint8Array(IRQ_SET_SIZE + values.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(4, ACTIONS[set.action] | DATA[set.data.kind], true);
  view.setUint32(8, set.index, true);
  view.setUint32(12, set.start, true);
  view.setUint32(16, set.count, true);
  for (const [index, value] of values.entries()) bytes[IRQ_SET_SIZE + index] = value ? 1 : 0;
  return bytes;
}

function keyOf<K extends string>(names: Record<K, number>, bits: number): K | undefined {
  return (Object.keys(names) as K[]).find((name) => names[name] === bits);
}

/**
 * @throws {VfioError} EINVAL for a short structure, for unknown flags, unless exactly one action and one kind of data
 * is named, and when booleans are missing
 */
export function decodeIrqSet(bytes: Uint8Array): IrqSet {
  if (bytes.length < IRQ_SET_SIZE) {
    throw new VfioError("EINVAL", `irq set of ${bytes.length} bytes, ${IRQ_SET_SIZE} are needed`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const argsz = view.getUint32(0, true);
  const flags = view.getUint32(4, true);
  const count = view.getUint32(16, true);
  const action = keyOf(ACTIONS, flags & ACTION_MASK);
  const data = keyOf(DATA, flags & DATA_MASK);
  if (action === undefined || data === undefined || (flags & ~(ACTION_MASK | DATA_MASK)) !== 0) {
    throw new VfioError("EINVAL", `irq set flags 0x${flags.toString(16)}: one action and one kind of data are needed`);
  }
  const needed = data === "bool" ? IRQ_SET_SIZE + count : IRQ_SET_SIZE;
  if (argsz < needed || bytes.length < needed) {
    throw new VfioError("EINVAL", `irq set of ${bytes.length} bytes with argsz ${argsz}, ${needed} are needed`);
  }
  const fixed = { index: view.getUint32(8, true), start: view.getUint32(12, true), count, action };
  if (data !== "bool") return { ...fixed, data: { kind: data } };
  const values = Array.from(bytes.subarray(IRQ_SET_SIZE, needed), (value) => value !== 0);
  return { ...fixed, data: { kind: "bool", values } };
}
