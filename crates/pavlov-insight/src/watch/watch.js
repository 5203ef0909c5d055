// Asks for the page again every few seconds and puts its new content in place of the old, if it is another one.
"use strict";
const PERIOD = 3000;
let shown = null;
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
    state("live, read at " + new Date().toLocaleTimeString());
  } catch (error) {
    state("pavlov watch does not answer");
  }
}
setInterval(refresh, PERIOD);
