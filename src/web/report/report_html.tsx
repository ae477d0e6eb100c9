import { renderToString } from "preact-render-to-string";
import { layOut } from "../../picture/layout.js";
import { linkCount, MOST_LINKS } from "../../picture/most_links.js";
import { pictureOf } from "../../picture/picture.js";
import { toSvg } from "../../picture/svg.js";
import { shown } from "../../picture/text.js";
import { Findings, NotKnown } from "./findings.js";
import { Gpus } from "./gpus.js";
import { IsolationSection } from "./isolation.js";
import { Origin, Owners } from "./origin.js";
import type { ReportSource } from "./report_source.js";
import { REPORT_STYLE } from "./report_style.js";
import { counted, Moment, Name, Section } from "./words.js";

/** It may show what is in it, and nothing else: no scripts, nothing from elsewhere. */
const POLICY = "default-src 'none'; style-src 'unsafe-inline'";

/** An audit as one HTML document for people, with picture and evidence. It needs nothing but itself. */
export function reportHtml(source: ReportSource): string {
  const html = `<!doctype html>\n${renderToString(<Report {...source} />)}\n`;
  // Names are anybody's: what does not print, or turns the order of letters, is gone wherever it stands.
  return html.split("\n").map(shown).join("\n");
}

function Report(source: ReportSource) {
  const { machine, audit } = source;
  return (
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta http-equiv="Content-Security-Policy" content={POLICY} />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <meta name="color-scheme" content="light dark" />
        <meta name="generator" content={`linkfence ${source.version}`} />
        <title>{`NVLink audit of ${machine.name}${machine.virtual ? " (virtual)" : ""}`}</title>
        <style dangerouslySetInnerHTML={{ __html: REPORT_STYLE }} />
      </head>
      <body>
        <Heading {...source} />
        <main>
          <Findings findings={audit.findings} />
          <PictureSection {...source} />
          <Owners {...source} />
          <NotKnown unknown={audit.unknown} notes={audit.notes} />
          <IsolationSection machine={machine} isolation={source.isolation} />
          <Gpus {...source} />
          <Origin {...source} />
        </main>
      </body>
    </html>
  );
}

function Heading({ machine, audit, at }: ReportSource) {
  const count = audit.findings.length;
  return (
    <header>
      <h1>
        NVLink audit of <Name text={machine.name} />
        {machine.virtual && " (virtual)"}
      </h1>
      <p class={count > 0 ? "verdict bad" : "verdict good"}>
        <strong>{counted(count, "finding")}</strong>
        {count > 0
          ? ": something crosses between owners, or may."
          : ": nothing crosses between owners, as far as is known."}
      </p>
      {machine.virtual && (
        <p class="virtual">
          <strong>Virtual hardware.</strong> This machine is a model; no real GPU was looked at.
        </p>
      )}
      <p class="dim">
        {counted(machine.gpus.length, "GPU")}, {machine.functions.length} PCI functions, read from {machine.source}.
        Made <Moment at={at} />.
      </p>
      <nav aria-label="Contents">
        <ul>
          {CONTENTS.map(([id, title]) => (
            <li key={id}>
              <a href={`#${id}`}>{title}</a>
            </li>
          ))}
        </ul>
      </nav>
    </header>
  );
}

const CONTENTS = [
  ["findings", "Findings"],
  ["picture", "Picture"],
  ["owners", "Owners"],
  ["unknown", "Not known"],
  ["isolation", "Isolation"],
  ["links", "Links and evidence"],
  ["origin", "What this was made from"],
] as const;

function PictureSection({ machine, assignments, isolation }: ReportSource) {
  const links = linkCount(machine);
  return (
    <Section id="picture" title="Picture">
      {links > MOST_LINKS ? (
        <p>
          {links} links are too many for a picture ({MOST_LINKS} at most); all of them are listed below.
        </p>
      ) : (
        <PictureOf machine={machine} assignments={assignments} isolation={isolation} />
      )}
    </Section>
  );
}

/** As wide as the window; never so small that nobody can read it: then it is moved under its frame. */
function PictureOf({ machine, assignments, isolation }: Pick<ReportSource, "machine" | "assignments" | "isolation">) {
  const drawing = layOut(pictureOf(machine, assignments, isolation));
  const width = `--width:${drawing.width}px`;
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a frame that scrolls is to be reached by keyboard too
    <section class="picture" aria-label="Picture of the machine" tabIndex={0} style={width}>
      <div dangerouslySetInnerHTML={{ __html: toSvg(drawing) }} />
    </section>
  );
}
