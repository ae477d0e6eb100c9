import { useState } from "preact/hooks";
import type { Gpu } from "../../machine/machine.js";
import { registersInWords } from "../../machine/registers_in_words.js";
import { Moment } from "./page_time.js";
import { Name } from "./tag.js";

interface GpuRegistersProps {
  name: string;
  address: string;
  /** With the evidence at its links; undefined when the server tells of no such GPU. */
  gpu: Gpu | undefined;
  /** Shown without being asked for. */
  open: boolean;
}

/** The registers that were read of a GPU as evidence, each with what it means. */
export function GpuRegisters({ name, address, gpu, open }: GpuRegistersProps) {
  const [isOpen, setOpen] = useState(open);
  return (
    <details open={open} onToggle={({ currentTarget }) => setOpen(currentTarget.open)}>
      <summary>
        <Name text={name} /> {name !== address && <span class="mono dim">{address}</span>}{" "}
        <span class="dim">{gpu === undefined || gpu.part === "unknown" ? "unknown part" : gpu.part}</span>
      </summary>
      {isOpen && <RegisterTable name={name} gpu={gpu} />}
    </details>
  );
}

function RegisterTable({ name, gpu }: Pick<GpuRegistersProps, "name" | "gpu">) {
  const registers = gpu === undefined ? [] : registersInWords(gpu);
  if (registers.length === 0) {
    return <p class="dim">No register was read as evidence, so nothing is proven of its links.</p>;
  }
  const readAt = gpu?.links.find(({ evidence }) => evidence?.readAt !== undefined)?.evidence?.readAt;
  return (
    <table class="registers">
      <caption class="unseen">
        Registers of <Name text={name} />
      </caption>
      <thead>
        <tr>
          <th scope="col">Register</th>
          <th scope="col">Value</th>
          <th scope="col">Meaning</th>
        </tr>
      </thead>
      <tbody>
        {registers.map(({ offset, value, name: register, meaning }) => (
          <tr key={`${offset} ${value}`}>
            <th scope="row">
              {register} <span class="mono dim">{hex(offset, 6)}</span>
            </th>
            <td class="mono">{hex(value, 8)}</td>
            <td>{meaning}</td>
          </tr>
        ))}
      </tbody>
      {readAt !== undefined && (
        <tfoot>
          <tr>
            <td colSpan={3} class="dim">
              read <Moment at={readAt} />, and the same since
            </td>
          </tr>
        </tfoot>
      )}
    </table>
  );
}

function hex(value: number, digits: number): string {
  return `0x${(value >>> 0).toString(16).padStart(digits, "0")}`;
}
