// Every page: what makes forms kinder. Nothing here is needed for them to work.
"use strict";
document.addEventListener("submit", (event) => {
  // A form is sent once: a second click while the first is under way does nothing.
  const form = event.target;
  if (form.method === "dialog") return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
  setTimeout(() => delete form.dataset.sent, 4000);
});
for (const box of document.querySelectorAll("[data-file-into]")) {
  // A chosen file is read into the field that is sent.
  box.addEventListener("change", async () => {
    const target = document.getElementById(box.dataset.fileInto);
    if (box.files[0]) target.value = await box.files[0].text();
  });
}
const undo = document.getElementById("undo");
if (undo) {
  let left = Number(undo.dataset.seconds);
  const timer = setInterval(() => {
    left -= 1;
    document.getElementById("undo-left").textContent = Math.max(left, 0);
    if (left <= 0) { clearInterval(timer); undo.hidden = true; }
  }, 1000);
}
// Where one is, among sections that do not all fit on the screen.
for (const here of document.querySelectorAll(".sections [aria-current]")) here.parentElement.scrollLeft = here.offsetLeft - here.parentElement.offsetLeft - 40;
// What scrolls, either way, can be reached by keyboard: looked at again whenever its size changes.
const reachable = new ResizeObserver((changes) => {
  for (const { target: box } of changes) {
    if (box.scrollHeight > box.clientHeight + 1 || box.scrollWidth > box.clientWidth + 1 || box.closest(".prompt, .guide, .aligned")) box.tabIndex = 0;
  }
});
for (const box of document.querySelectorAll("[data-scroll]")) reachable.observe(box);
