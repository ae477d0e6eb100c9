import type { ServingEvent } from "./messages.js";

/** Notes when each step of a fence happened, here where it does: whoever is told may hear of it late. */
export function stamped(tell: (event: ServingEvent) => void): (event: ServingEvent) => void {
  return (event) => tell(event.kind === "fence" ? { ...event, at: performance.now() } : event);
}
