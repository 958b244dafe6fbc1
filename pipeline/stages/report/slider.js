// The threshold moves. Without this script every threshold stands in a table.
"use strict";

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
