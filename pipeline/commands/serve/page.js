"use strict";
const token = new URLSearchParams(location.search).get("token") || "";
const byId = (id) => document.getElementById(id);
const state = byId("state"), results = byId("results"), drop = byId("drop");
let busy = false;

function make(kind, text, name) {
  const one = document.createElement(kind);
  if (text !== undefined) one.textContent = text;
  if (name) one.className = name;
  return one;
}

function bytesOf(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

async function send(files) {
  if (busy || !files.length) return;
  busy = true;
  state.textContent = `Reading ${files.length === 1 ? files[0].name : `${files.length} files`} …`;
  const names = JSON.stringify(files.map((one) => [one.path || one.file.webkitRelativePath || one.file.name, one.file.size]));
  try {
    const response = await fetch("answer", { method: "POST", headers: { "X-Token": token }, body: new Blob([names, "\n", ...files.map((one) => one.file)]) });
    const found = await response.json();
    if (!response.ok) throw new Error(found.error);
    show(found);
  } catch (error) {
    state.textContent = `Not answered: ${error.message}.`;
  }
  busy = false;
}

function show(found) {
  results.replaceChildren();
  const answered = found.scans.filter((one) => one.answered).length;
  const left = found.left_out.length ? ` Left out: ${found.left_out.join(", ")}.` : "";
  state.textContent = `Scans: ${found.scans.length}; answered: ${answered}.${left}`;
  if (!found.scans.length) return;
  results.append(make("h2", "Answers"), actions(found));
  for (const scan of found.scans) results.append(article(scan));
}

function actions(found) {
  const row = make("p", undefined, "actions");
  row.append(download("results.csv", "CSV", new Blob([found.csv], { type: "text/csv" })));
  const print = make("button", "PDF");
  print.addEventListener("click", () => window.print());
  row.append(print);
  return row;
}

function download(name, label, content) {
  const one = make("button", label);
  one.addEventListener("click", () => {
    const link = make("a");
    link.href = URL.createObjectURL(content);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
  return one;
}

function article(scan) {
  const one = byId("scan").content.cloneNode(true).firstElementChild;
  one.querySelector("h3").textContent = scan.name;
  if (scan.view) view(one, scan);
  else one.querySelector(".viewer").replaceChildren(make("p", "Its slices are not shown.", "soft"));
  say(one.querySelector(".said"), scan);
  return one;
}

function sentence(text) {
  return text ? `${text[0].toUpperCase()}${text.slice(1)}.` : "";
}

function say(place, scan) {
  if (!scan.answered) {
    const line = make("p", undefined, "answer");
    line.append(make("span", "The model gives no answer", "fail"), `: ${scan.why}.`);
    place.append(line, make("p", sentence(scan.reason), "soft"), make("p", "This says nothing about the patient.", "soft"));
  } else {
    if (document.body.dataset.multilabel === "false") {
      const line = make("p", "Most probable: ", "answer");
      line.append(make("b", scan.probabilities[0].name), ` (${scan.probabilities[0].shown})`);
      place.append(line);
    }
    const list = make("dl");
    for (const { name, shown, value } of scan.probabilities) {
      const row = make("div"), bar = make("dd", undefined, "bar"), inner = make("i");
      bar.setAttribute("aria-hidden", "true");
      inner.style.width = `${100 * value}%`;
      bar.append(inner);
      row.append(make("dt", name), make("dd", shown), bar);
      list.append(row);
    }
    place.append(list);
    if (scan.decision) place.append(make("p", `Decision: ${scan.decision}`));
    if (scan.set) place.append(make("p", `Prediction set, the classes that cannot be ruled out: ${scan.set}`));
  }
  if (scan.nearest) place.append(make("p", `Nearest development site: ${scan.nearest}`, "soft"));
  if (!scan.dicom.length) return;
  const row = make("p", undefined, "actions");
  for (const { name, data } of scan.dicom) {
    row.append(download(name, `DICOM ${name.replace("result_", "").replace(".dcm", "")}`, new Blob([bytesOf(data)], { type: "application/dicom" })));
  }
  place.append(row);
}

function view(one, scan) {
  const { shape: [depth, rows, columns], colour, aspect, low, high, range, start, map } = scan.view;
  const raw = bytesOf(scan.view.pixels), pixels = colour ? raw : new Uint16Array(raw.buffer);
  const overlay = map ? bytesOf(map) : null;
  const canvas = one.querySelector("canvas"), where = one.querySelector(".where");
  const at = (role) => one.querySelector(`[data-role=${role}]`);
  const [slice, dark, bright, fade] = ["slice", "low", "high", "fade"].map(at);
  canvas.width = columns;
  canvas.height = rows;
  canvas.style.aspectRatio = `${columns} / ${rows * aspect}`;
  slice.max = depth;
  slice.value = start + 1;
  for (const edge of [dark, bright]) Object.assign(edge, { min: low, max: high });
  [dark.value, bright.value] = range;
  one.querySelector(".of-slice").hidden = depth === 1;
  for (const label of one.querySelectorAll(".of-window")) label.hidden = colour;
  one.querySelector(".of-map").hidden = !overlay;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);

  function draw() {
    const number = slice.value - 1, begin = number * rows * columns, scale = 65535 / Math.max(high - low, 1e-6);
    const black = (dark.value - low) * scale, width = Math.max((bright.value - dark.value) * scale, 1);
    const opaque = overlay ? Number(fade.value) : 0;
    for (let index = 0; index < rows * columns; index++) {
      const support = overlay ? overlay[begin + index] / 255 : 0, share = opaque * support;
      const hot = support < 0.5 ? [70 + 290 * support, 10 + 100 * support, 120 - 120 * support] : [215 + 80 * (support - 0.5), 60 + 390 * (support - 0.5), 60 + 100 * (support - 0.5)];
      for (let channel = 0; channel < 3; channel++) {
        const grey = colour ? pixels[3 * (begin + index) + channel] : (255 * (pixels[begin + index] - black)) / width;
        const seen = Math.min(Math.max(grey, 0), 255) * (1 - 0.4 * opaque);
        image.data[4 * index + channel] = seen + share * (hot[channel] - seen);
      }
      image.data[4 * index + 3] = 255;
    }
    context.putImageData(image, 0, 0);
    const number_of = depth > 1 ? `slice ${number + 1} of ${depth}` : "image";
    const supports = overlay ? `; bright: regions that support ${scan.asked}` : "";
    where.textContent = `${number_of}${supports}`;
    canvas.setAttribute("aria-label", `${scan.name}, ${where.textContent}. Arrow keys change the slice.`);
  }

  function move(by) {
    slice.value = Number(slice.value) + by;
    draw();
  }

  for (const input of [slice, dark, bright, fade]) input.addEventListener("input", draw);
  canvas.addEventListener("keydown", (event) => {
    const by = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -depth, End: depth }[event.key];
    if (!by) return;
    event.preventDefault();
    move(by);
  });
  if (depth > 1) canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    move(event.deltaY > 0 ? 1 : -1);
  }, { passive: false });
  draw();
}

async function filesOf(entry, path) {
  if (entry.isFile) return [{ file: await new Promise((done, failed) => entry.file(done, failed)), path: path + entry.name }];
  const reader = entry.createReader(), found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) break;
    for (const one of some) found.push(...(await filesOf(one, `${path}${entry.name}/`)));
  }
  return found;
}

for (const id of ["files", "folder"]) byId(id).addEventListener("change", (event) => {
  send([...event.target.files].map((file) => ({ file, name: file.name })));
  event.target.value = "";
});
for (const name of ["dragover", "dragleave", "drop"]) document.addEventListener(name, (event) => {
  event.preventDefault();
  drop.classList.toggle("over", name === "dragover");
});
document.addEventListener("drop", async (event) => {
  const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [];
  for (const entry of entries) found.push(...(await filesOf(entry, "")));
  send(found.map((one) => ({ ...one, name: one.file.name })));
});
