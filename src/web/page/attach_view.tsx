import { useState } from "preact/hooks";
import { shown } from "../../picture/text.js";
import { CopyButton } from "./copy_button.js";
import { counted } from "./counted.js";
import { OwnerName } from "./owner_name.js";
import { Moment } from "./page_time.js";
import { ScrollRegion } from "./section.js";
import { Name } from "./tag.js";
import type { View } from "./view.js";

type Form = "qemu" | "libvirt";

const FORMS: Record<Form, { words: string; where: string }> = {
  qemu: { words: "QEMU", where: "Behind qemu-system-x86_64 -machine q35 …; 4G is the guest's memory, in both places" },
  libvirt: { words: "libvirt", where: "To be added to the domain, with virsh edit" },
};

/** What to paste for each assignment, and which sockets are served. */
export function AttachView({ state, assignments }: Pick<View, "state" | "assignments">) {
  const [form, setForm] = useState<Form>("qemu");
  const { status, snippets } = state;
  if (assignments.length === 0) {
    return (
      <p>
        Nothing is assigned. <code>linkfence assign vm1=GPU0</code> does it, or the plan below.
      </p>
    );
  }
  const nameOf = new Map<string, string>(status.functions.map(({ address, name }) => [address, name]));
  return (
    <>
      <fieldset class="choice">
        <legend>For</legend>
        {(["qemu", "libvirt"] as const).map((each) => (
          <label key={each}>
            <input type="radio" name="form" checked={each === form} onChange={() => setForm(each)} />
            {FORMS[each].words}
          </label>
        ))}
      </fieldset>
      {status.assignments.map(({ name, members, notServed }) => {
        const snippet = snippets.find((each) => each.name === name)?.[form];
        return (
          <div class="card" key={name}>
            <h3>
              <OwnerName name={name} owners={assignments.map((each) => each.name)} />{" "}
              <span class="dim">{shown(members.map((member) => nameOf.get(member) ?? member).join(", "))}</span>
            </h3>
            {notServed.length > 0 && <p class="note">Not served, though planned for: {shown(notServed.join(" "))}</p>}
            {snippet === undefined ? (
              <p class="note">Nothing of it is served, so there is nothing to paste.</p>
            ) : (
              <Snippet
                text={snippet}
                what={`what ${FORMS[form].words} needs for ${shown(name)}`}
                where={FORMS[form].where}
              />
            )}
          </div>
        );
      })}
      <Sockets functions={status.functions} />
    </>
  );
}

function Snippet({ text, what, where }: { text: string; what: string; where: string }) {
  return (
    <>
      <p>
        {where}. <CopyButton text={text} what={what} />
      </p>
      <ScrollRegion label={`Text to paste: ${what}`}>
        <pre>{text.split("\n").map(shown).join("\n")}</pre>
      </ScrollRegion>
    </>
  );
}

function Sockets({ functions }: { functions: View["state"]["status"]["functions"] }) {
  const served = functions.filter(({ socket }) => socket !== null);
  if (served.length === 0) return null;
  return (
    <>
      <h3>{counted(served.length, "socket")}</h3>
      <ScrollRegion label="Sockets that are served" high={served.length > 12}>
        <table>
          <caption class="unseen">Each function that is served, and who is connected</caption>
          <thead>
            <tr>
              <th scope="col">Function</th>
              <th scope="col">Owner</th>
              <th scope="col">Socket</th>
              <th scope="col">Client</th>
            </tr>
          </thead>
          <tbody>
            {served.map(({ address, name, assignment, socket, client }) => (
              <tr key={address}>
                <th scope="row">
                  <Name text={name} />
                </th>
                <td>
                  <Name text={assignment} />
                </td>
                <td class="mono">
                  <Name text={socket ?? ""} />
                </td>
                <td>
                  {client === null ? (
                    "none"
                  ) : (
                    <>
                      process {client.pid}, uid {client.uid}, gid {client.gid}, since <Moment at={client.since} />
                    </>
                  )}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollRegion>
    </>
  );
}
