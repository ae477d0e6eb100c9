import { Component, type ComponentChildren, createContext } from "preact";
import { useContext } from "preact/hooks";
import { shown } from "../../picture/text.js";
import { Moment } from "./page_time.js";
import type { Lost } from "./view.js";

/** Set where nothing that is shown may pass for what is now. */
export const LostContext = createContext<Lost | undefined>(undefined);

/** A part of the page with its heading, which says so when it is of then, not of now. */
export function Section({ id, title, children }: { id: string; title: string; children: ComponentChildren }) {
  const lost = useContext(LostContext);
  return (
    <section id={id} aria-labelledby={`${id}-heading`}>
      <h2 id={`${id}-heading`}>
        {title}
        {lost !== undefined && (
          <span class="as-of">
            {" "}
            as of <Moment at={lost.since} />
          </span>
        )}
      </h2>
      <Guarded>{children}</Guarded>
    </section>
  );
}

/** Keeps the rest of the page when one part of it cannot be shown, and says so. */
class Guarded extends Component<{ children: ComponentChildren }, { error?: string }> {
  static override getDerivedStateFromError(error: unknown) {
    return { error: error instanceof Error ? error.message : String(error) };
  }

  override render() {
    const { error } = this.state;
    if (error === undefined) return this.props.children;
    return <p class="note bad">This cannot be shown: {shown(error)}. Load the page again, or use the command line.</p>;
  }
}

/** What may be wider or higher than there is room: it scrolls in itself, by keyboard too. */
export function ScrollRegion({
  label,
  high,
  children,
}: {
  label: string;
  high?: boolean;
  children: ComponentChildren;
}) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls has to be reached by keyboard
    <section class={high === true ? "scroll high" : "scroll"} aria-label={label} tabIndex={0}>
      {children}
    </section>
  );
}
