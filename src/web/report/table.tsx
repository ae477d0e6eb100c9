import type { ComponentChildren } from "preact";

interface TableProps {
  caption: ComponentChildren;
  /** Titles of the columns. */
  head: readonly string[];
  /** A row's first cell says what the row is about. */
  rows: readonly (readonly ComponentChildren[])[];
  class?: string;
}

/** A table with a caption; where it is too narrow for columns, each cell stands below its column's title. */
export function Table({ caption, head, rows, class: look = "" }: TableProps) {
  return (
    <table class={look}>
      <caption>{caption}</caption>
      <thead>
        <tr>
          {head.map((title) => (
            <th scope="col" key={title}>
              {title}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map(([first, ...rest], row) => (
          <tr key={row}>
            <th scope="row">{first}</th>
            {rest.map((cell, column) => (
              <td key={column} data-label={head[column + 1]}>
                {cell}
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
