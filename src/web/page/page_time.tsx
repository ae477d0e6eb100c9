/** Hours, minutes and seconds here; with the date in front when that is not today's. */
export function clock(time: number | string, today = new Date()): string {
  const at = new Date(time);
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");
  if (at.toDateString() === today.toDateString()) return hours;
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${hours}`;
}

/** `212 ms`, `1.3 s`, `4 min`. */
export function duration(milliseconds: number): string {
  const whole = Math.max(0, Math.round(milliseconds));
  if (whole < 1000) return `${whole} ms`;
  if (whole < 120_000) return `${(whole / 1000).toFixed(1)} s`;
  return `${Math.round(whole / 60_000)} min`;
}

/** A moment, for people and for programs. */
export function Moment({ at }: { at: string | number }) {
  const iso = typeof at === "string" ? at : new Date(at).toISOString();
  return (
    <time dateTime={iso} title={iso}>
      {clock(at)}
    </time>
  );
}
