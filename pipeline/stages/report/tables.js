// Tables sort and can be saved. Without this script the page says the same, in the order it was written.
"use strict";

const UNITS = { k: 1e3, M: 1e6 };

// What a cell is sorted by: of a metric with its interval the metric; nothing where there is none.
function keyOf(cell) {
  const text = cell && !cell.querySelector(".none") ? cell.textContent.trim() : "";
  const found = /^([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?)([kM])?(?![\w.])/.exec(text);
  return { text, number: found ? Number(found[1].replaceAll(",", "")) * (UNITS[found[2]] ?? 1) : NaN };
}

// A cell that stands for several rows is written into each of them, so that they may part.
function spread(rows) {
  rows.forEach((row, place) => {
    for (const cell of [...row.cells].filter((one) => one.rowSpan > 1)) {
      const column = [...row.cells].indexOf(cell), span = cell.rowSpan;
      cell.rowSpan = 1;
      if (cell.scope) cell.scope = "row";
      for (const other of rows.slice(place + 1, place + span)) other.insertBefore(cell.cloneNode(true), other.cells[column] ?? null);
    }
  });
}

function sort(table, header) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  const direction = header.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending", sign = direction === "ascending" ? 1 : -1;
  spread(rows);
  const keyed = rows.map((row) => ({ row, key: keyOf(row.cells[header.cellIndex]) }));
  const numeric = keyed.every(({ key }) => key.text === "" || !Number.isNaN(key.number));
  const compared = (a, b) => (numeric ? a.number - b.number : a.text.localeCompare(b.text, "en", { numeric: true }));
  keyed.sort(({ key: a }, { key: b }) => (a.text === "") - (b.text === "") || (a.text && sign * compared(a, b)) || 0);
  table.tBodies[0].append(...keyed.map(({ row }) => row)); // what has no metric stays last in both directions
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", direction);
}

function makeSortable(table) {
  for (const header of table.tHead.rows[0].querySelectorAll("th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", `Sort by ${header.textContent.trim()}`);
    button.addEventListener("click", () => sort(table, header));
    header.append(button);
  }
}

// The text of a cell; lines and items of a list are set apart.
function textOf(cell) {
  const copy = cell.cloneNode(true);
  copy.querySelectorAll("button, svg").forEach((one) => one.remove());
  copy.querySelectorAll("br, li").forEach((one) => one.before("; "));
  return copy.textContent.replace(/\s+/g, " ").trim();
}

// All rows as texts; a cell that spans rows or columns is repeated in each of them.
function gridOf(table) {
  const grid = [...table.rows].map(() => []);
  [...table.rows].forEach((row, y) => {
    for (const cell of row.cells) {
      let x = 0;
      while (grid[y][x] !== undefined) x += 1;
      for (const line of grid.slice(y, y + cell.rowSpan)) line.splice(x, cell.colSpan, ...Array(cell.colSpan).fill(textOf(cell)));
    }
  });
  return grid;
}

// A column of metrics becomes three: the value and the limits of its interval.
function csvOf(table) {
  const interval = /^([+-]?[\d.]+) \(([+-]?[\d.]+) to ([+-]?[\d.]+)\)$/;
  const grid = gridOf(table), heads = grid.splice(0, table.tHead.rows.length), names = heads.at(-1).map((_, x) => [...new Set(heads.map((row) => row[x]))].join(" ").trim());
  const metric = names.map((_, x) => grid.some((row) => interval.test(row[x])));
  const head = names.flatMap((name, x) => (metric[x] ? [name, `${name}, lower`, `${name}, upper`] : [name]));
  const body = grid.map((row) => names.flatMap((_, x) => (metric[x] ? (interval.exec(row[x])?.slice(1) ?? [row[x], "", ""]) : [row[x] ?? ""])));
  // a text that a spreadsheet would take for a formula begins with an apostrophe
  const field = (text) => `"${text.replace(/^(?=[=+@-])(?![+-][\d.])/, "'").replaceAll('"', '""')}"`;
  return [head, ...body].map((row) => row.map(field).join(",")).join("\r\n");
}

function makeSavable(table) {
  const button = document.createElement("button");
  const title = [...document.querySelectorAll("h2, h3, h4")].findLast((one) => one.compareDocumentPosition(table) & Node.DOCUMENT_POSITION_FOLLOWING)?.textContent ?? "table";
  Object.assign(button, { type: "button", className: "save", textContent: "Save as CSV" });
  button.setAttribute("aria-label", `Save as CSV: ${title}`);
  button.addEventListener("click", () => {
    const link = document.createElement("a"), address = URL.createObjectURL(new Blob(["\ufeff", csvOf(table)], { type: "text/csv" }));
    Object.assign(link, { href: address, download: `${title.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "")}.csv` });
    link.click();
    URL.revokeObjectURL(address);
  });
  table.parentElement.after(button);
}

for (const table of document.querySelectorAll("table:not(.verdicts)")) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  if (table.tHead?.rows.length === 1 && rows.length > 2 && !table.querySelector("tr.note")) makeSortable(table);
}
for (const table of document.querySelectorAll(".wide > table")) if (!table.closest(".slider")) makeSavable(table);
