import { useRef } from "preact/hooks";

/** The value, or the one before it where both say the same: what is made from it need not be made again. */
export function useUnchanged<Value>(value: Value): Value {
  const last = useRef<{ value: Value; text: string } | undefined>(undefined);
  if (last.current?.value === value) return value;
  const text = JSON.stringify(value, (key, part: unknown) => {
    // When registers were read says nothing of what they hold.
    if (key === "readAt") return undefined;
    return typeof part === "bigint" ? String(part) : part;
  });
  if (last.current?.text !== text) last.current = { value, text };
  return last.current.value;
}
