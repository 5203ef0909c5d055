// Asks for the page again every few seconds and puts its new content in place of the old, if it is another one.
"use strict";
const PERIOD = 3000;
let shown = null;
// Whether the run goes on, as far as its files tell: one that was killed says nothing more, and neither does one that waits.
function going({ last, finished }) {
  if (finished !== undefined) return "finished";
  if (last === undefined) return "no line of metrics yet";
  const seconds = Math.max(0, Math.round((Date.now() - last) / 1000));
  const [n, unit] = seconds < 120 ? [seconds, "s"] : seconds < 7200 ? [Math.round(seconds / 60), "min"] : [Math.round(seconds / 3600), "h"];
  return seconds < 120 ? `live, last line ${n} ${unit} ago` : `no new line for ${n} ${unit}: a long update, a wait, or it was stopped`;
}
async function refresh() {
  const state = (text) => { const place = document.getElementById("state"); if (place) place.textContent = text; };
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const text = await answer.text();
    if (!answer.ok) { state("the run cannot be read: " + text.slice(0, 200)); return; }
    // Nothing moves under someone who marks text.
    if (text !== shown && String(getSelection()) === "") {
      const page = new DOMParser().parseFromString(text, "text/html");
      document.querySelector("main").replaceWith(document.adoptNode(page.querySelector("main")));
      shown = text;
    }
    state(going(document.getElementById("state").dataset));
  } catch (error) {
    state("pavlov watch does not answer");
  }
}
setInterval(refresh, PERIOD);
