// SPDX-License-Identifier: LGPL-2.1-or-later
// What the page has beyond its own markup: a filter, a line that says what the pointer is on, and Escape to go back.
"use strict";
const input = document.querySelector(".filter input");
const megabytes = (size) => (size >= 1e5 ? (size / 1e6).toFixed(1) + " MB" : (size / 1e3).toFixed(1) + " kB");
const statusOf = (element) => element.closest(".view").querySelector(".status");

function filter() {
  const wanted = input.value.trim().toLowerCase();
  for (const view of document.querySelectorAll(".view")) {
    let size = 0;
    let count = 0;
    for (const box of view.querySelectorAll(".box")) {
      const fits = box.dataset.path.toLowerCase().includes(wanted);
      box.classList.toggle("dim", !fits);
      if (fits && box.closest(".whole")) {
        size += Number(box.dataset.size);
        count += 1;
      }
    }
    view.querySelector(".status").textContent = wanted ? `${count} boxes with “${input.value.trim()}”: ${megabytes(size)}` : "";
  }
}

document.querySelector(".filter").hidden = false;
input.addEventListener("input", filter);
document.addEventListener("pointerover", (event) => {
  const group = event.target.closest("svg g");
  if (group && !input.value) statusOf(group).textContent = group.querySelector("title").textContent.replaceAll("\n", " · ");
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && location.hash) location.hash = "";
});
