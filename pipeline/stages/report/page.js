// Tables sort and the threshold moves. Without this script the page says the same, in the order it was written.
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
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, header));
    header.append(button);
  }
}

// The slider shows the rows of its table that belong to one threshold; it computes nothing.
function makeSlider(slider) {
  const input = slider.querySelector("input"), said = slider.querySelector("output"), shown = slider.querySelector("tbody");
  const rows = [...slider.nextElementSibling.querySelectorAll("tr[data-at]")];
  const move = () => {
    const at = Number(input.value), declared = at >= Number(input.dataset.low) && at <= Number(input.dataset.high);
    said.textContent = (at / 100).toFixed(2) + (declared ? "" : ", which was not declared beforehand");
    input.setAttribute("aria-valuetext", said.textContent);
    shown.replaceChildren(...rows.filter((row) => row.dataset.at === input.value).map((row) => row.cloneNode(true)));
  };
  input.addEventListener("input", move);
  move();
  slider.hidden = false;
}

document.querySelectorAll(".slider").forEach(makeSlider);
for (const table of document.querySelectorAll("table:not(.verdicts)")) {
  const rows = [...table.tBodies].flatMap((body) => [...body.rows]);
  if (table.tHead?.rows.length === 1 && rows.length > 2 && !table.querySelector("tr.note")) makeSortable(table);
}
