// The difference view of long answers: each scrolls in its own box, and the other follows, so that what both say stays side by side.
"use strict";
(() => {
  const boxes = [...document.querySelectorAll(".aligned .text")];
  if (boxes.length !== 2) return;
  // Words that both have stand in the same order in both.
  const shared = boxes.map((box) => [...box.querySelectorAll("[data-s]")].filter((word) => !word.closest("ins, del")));
  const count = Math.min(shared[0].length, shared[1].length);
  // How far down in a box its nth shared word stands; the beginning and the end of both answers belong together too.
  const place = (side, n) => {
    const box = boxes[side];
    if (n < 0) return 0;
    if (n >= count) return box.scrollHeight;
    return shared[side][n].getBoundingClientRect().top - box.getBoundingClientRect().top + box.scrollTop;
  };
  const shown = [0, 0];
  const follow = (from) => {
    const [box, other, to] = [boxes[from], boxes[1 - from], 1 - from];
    // What the other was moved to itself is no wish to move this one.
    if (Math.abs(box.scrollTop - shown[from]) < 1) return;
    shown[from] = box.scrollTop;
    // The line one reads goes from the top of the box to its foot as one goes through the answer: so both end together.
    const through = box.scrollTop / Math.max(1, box.scrollHeight - box.clientHeight);
    const line = box.scrollTop + through * box.clientHeight;
    let [before, after] = [-1, count];
    while (after - before > 1) {
      const middle = (before + after) >> 1;
      if (place(from, middle) <= line) before = middle; else after = middle;
    }
    const [start, end] = [place(from, before), place(from, after)];
    const part = end > start ? (line - start) / (end - start) : 0;
    const there = place(to, before) + part * (place(to, after) - place(to, before));
    other.scrollTop = there - through * other.clientHeight;
    shown[to] = other.scrollTop;
  };
  boxes.forEach((box, side) => box.addEventListener("scroll", () => follow(side), { passive: true }));
})();
