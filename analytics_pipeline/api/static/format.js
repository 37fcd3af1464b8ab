// Formats: numbers, times and small pieces of the page. Text goes in as text, never as HTML.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export const count = (value) => (value == null ? "–" : whole.format(value));
export const fixed = (value, digits) => (value == null ? "–" : value.toFixed(digits));
export const percent = (value) => (value == null ? "–" : `${value.toFixed(1)} %`);

/** Latencies are milliseconds in most sources; the page shows the number as it is. */
export const latency = (value) => (value == null ? "–" : whole.format(value));

export const moment = (value) => (value ? String(value).replace("T", " ").slice(0, 19) : "–");

/** An element with text and attributes. */
export function element(tag, text = "", attributes = {}) {
  const made = document.createElement(tag);
  made.textContent = text;
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** Fill a table's head and body; cells are texts, or elements. */
export function fillTable(table, heads, rows) {
  const head = element("tr");
  head.append(...heads.map((name) => element("th", name, { scope: "col" })));
  table.tHead.replaceChildren(head);
  table.tBodies[0].replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    row.append(...cells.map((cell) => {
      const data = element("td");
      data.append(cell);
      if (typeof cell === "string") data.title = cell;
      return data;
    }));
    return row;
  }));
}
