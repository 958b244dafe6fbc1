// Moves through the slices of a volume. Without it the strip of all slices stands below the images.
for (const mistake of document.querySelectorAll("[data-slices]")) {
  const numbers = mistake.dataset.slices.split(" "), thumbnails = mistake.querySelectorAll(".thumbnail img");
  const place = mistake.querySelector(".place"), bars = mistake.querySelectorAll(".bars rect");
  const label = document.createElement("label"), range = document.createElement("input");
  Object.assign(range, { type: "range", min: 0, max: numbers.length - 1, value: mistake.dataset.shown });
  label.className = "slices";
  label.append("Slice ", range);
  mistake.querySelector(".pair").after(label);
  const show = () => {
    const said = `slice ${numbers[range.value]}`;
    range.setAttribute("aria-valuetext", said);
    place.textContent = said;
    bars.forEach((bar, number) => bar.setAttribute("class", `column c${number == range.value ? 2 : 1}`));
  };
  const draw = () => mistake.querySelectorAll(".pair img, .pair canvas").forEach((shown, number) => {
    const thumbnail = thumbnails[number], edge = thumbnail.naturalHeight, canvas = document.createElement("canvas");
    canvas.width = canvas.height = edge;
    canvas.getContext("2d").drawImage(thumbnail, range.value * edge, 0, edge, edge, 0, 0, edge, edge);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${number ? "Map on slice" : "Slice"} ${numbers[range.value]}`);
    shown.replaceWith(canvas);
  });
  range.addEventListener("input", () => { show(); draw(); });
  show();
}
