import { useEffect, useState } from "preact/hooks";

/** How long it is said that something was copied, in milliseconds. */
const SAID = 4000;

/** Copies a text; says whether it could, in the button and to those who do not see it. */
export function CopyButton({ text, what }: { text: string; what: string }) {
  const [said, setSaid] = useState("");
  useEffect(() => {
    if (said === "") return;
    const timer = setTimeout(() => setSaid(""), SAID);
    return () => clearTimeout(timer);
  }, [said]);
  const copy = async () => setSaid((await copied(text)) ? "Copied" : "Not copied: select the text and copy it");
  return (
    <>
      <button type="button" onClick={copy}>
        Copy<span class="unseen"> {what}</span>
      </button>{" "}
      <span role="status">{said}</span>
    </>
  );
}

/** Pages that came over plain HTTP from another host have no clipboard; the old way works there. */
async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedTheOldWay(text);
  }
}

function copiedTheOldWay(text: string): boolean {
  const before = document.activeElement;
  const area = document.createElement("textarea");
  area.value = text;
  area.readOnly = true;
  area.className = "unseen";
  area.setAttribute("aria-hidden", "true");
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    area.remove();
    if (before instanceof HTMLElement) before.focus();
  }
}
