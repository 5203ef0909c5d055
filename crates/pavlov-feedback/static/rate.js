// The rater's desk: keys, drafts, marks on words, the heartbeat of a lease.
"use strict";
(() => {
  const form = document.getElementById("judge");
  if (!form) return;
  const kind = form.dataset.kind;
  const token = document.body.dataset.token;
  const post = (path, body, more = {}) => fetch(form.dataset.project + path, {
    method: "POST", headers: { "Content-Type": "application/json", "X-Form-Token": token }, body: JSON.stringify(body), ...more,
  });
  const field = (name) => form.elements.namedItem(name);
  const checked = (name) => form.querySelector(`input[name="${name}"]:checked`);

  // ---- What was begun is found again.
  const kept = () => {
    const entries = [...new FormData(form)].filter(([name]) => !["form_token", "lease", "key", "view", "active_ms"].includes(name));
    return JSON.stringify({ entries, active: active() });
  };
  // ---- Time is counted while somebody is there.
  let spent = Number(form.dataset.active) || 0, seen = performance.now(), since = document.hidden ? null : performance.now();
  const IDLE = 60000;
  const active = () => Math.round(spent + (since === null ? 0 : Math.min(performance.now(), seen + IDLE) - since));
  const pause = () => { spent = active(); since = null; };
  const here = () => {
    if (since !== null && performance.now() > seen + IDLE) { spent = active(); since = performance.now(); }
    seen = performance.now();
    if (since === null && !document.hidden) since = seen;
  };
  for (const type of ["pointermove", "keydown", "scroll", "touchstart"]) document.addEventListener(type, here, { passive: true });

  const saved = document.getElementById("saved");
  const say = (text, trouble = false) => { saved.textContent = text; saved.classList.toggle("trouble", trouble); };
  let revision = Number(form.dataset.revision), timer = null, wait = 500, sent = false, last = "";
  const correcting = !form.dataset.lease;
  const save = async () => {
    timer = null;
    if (sent || correcting) return;
    const body = kept();
    if (body.replace(/"active":\d+/, "") === last) return;
    revision += 1;
    try {
      const reply = await post("/draft", { lease: form.dataset.lease, revision, body });
      if (!reply.ok) throw new Error((await reply.json()).error);
      last = body.replace(/"active":\d+/, "");
      wait = 500;
      say("Draft saved");
    } catch (error) {
      say(`Not saved yet: ${error.message}`, true);
      wait = Math.min(wait * 2, 15000);
      changed();
    }
  };
  const changed = () => { if (!timer) timer = setTimeout(save, wait); };
  form.addEventListener("input", () => { changed(); show(); });
  const leave = () => {
    if (sent || correcting || !timer) return;
    revision += 1;
    post("/draft", { lease: form.dataset.lease, revision, body: kept() }, { keepalive: true }).catch(() => {});
  };
  document.addEventListener("visibilitychange", () => { if (document.hidden) { pause(); leave(); } else here(); });
  window.addEventListener("pagehide", leave);
  form.addEventListener("submit", (event) => {
    if (event.defaultPrevented) return;
    if (ranks && !event.submitter?.formNoValidate && !ranks.complete()) {
      event.preventDefault();
      event.stopPropagation();
      return say("Give every answer its place, or say that none of them will do.", true);
    }
    sent = true;
    field("active_ms").value = active();
    setTimeout(() => { sent = false; }, 5000);
  });
  if (!correcting) setInterval(async () => {
    if (document.hidden) return;
    try {
      const reply = await post("/heartbeat", { lease: form.dataset.lease });
      if (reply.status === 409 || reply.status === 410) say("This task went to somebody else meanwhile; what you send still counts.", true);
    } catch { /* The next beat tries again. */ }
  }, 60000);

  // ---- What is chosen shows on the answers.
  const strengths = form.querySelector(".strengths");
  const ranks = kind === "ranking" ? globalThis.ranking(form) : null;
  const show = () => {
    if (ranks) return ranks.show();
    const pick = checked("pick")?.value;
    for (const answer of form.querySelectorAll(".answer")) answer.classList.toggle("picked", answer.dataset.side === pick);
    if (strengths) {
      const decided = pick === "left" || pick === "right";
      strengths.classList.toggle("off", !decided);
      if (!decided) for (const input of strengths.querySelectorAll("input")) input.checked = false;
    }
  };

  // ---- Marks on words.
  const marking = form.querySelector(".marking");
  const words = [...form.querySelectorAll(".markable [data-s]")];
  let sign = 0, cursor = null;
  const signs = new Map();
  const paint = () => {
    for (const word of words) {
      const mark = signs.get(word) || 0;
      word.classList.toggle("liked", mark > 0);
      word.classList.toggle("disliked", mark < 0);
    }
    const marks = [];
    for (const answer of form.querySelectorAll(".answer[data-response]")) {
      const spans = [];
      for (const word of answer.querySelectorAll("[data-s]")) {
        const mark = signs.get(word);
        if (!mark) continue;
        const [start, end, before] = [Number(word.dataset.s), Number(word.dataset.e), spans.at(-1)];
        if (before && before.sign === mark && before.word.nextElementSibling === word) { before.end = end; before.word = word; }
        else spans.push({ start, end, sign: mark, word });
      }
      if (spans.length) marks.push({ response: answer.dataset.response, spans: spans.map(({ start, end, sign }) => ({ start, end, sign })) });
    }
    field("marks").value = marks.length ? JSON.stringify(marks) : "";
  };
  const unpaint = () => {
    signs.clear();
    let marks = [];
    try { marks = JSON.parse(field("marks").value || "[]"); } catch { return; }
    for (const { response, spans } of marks) {
      for (const word of form.querySelectorAll(`.answer[data-response="${CSS.escape(response)}"] .markable [data-s]`)) {
        const span = spans.find(({ start, end }) => start < Number(word.dataset.e) && Number(word.dataset.s) < end);
        if (span) signs.set(word, span.sign);
      }
    }
    paint();
  };
  const mark = (word, value) => {
    if (signs.get(word) === value) signs.delete(word); else signs.set(word, value);
    paint();
    changed();
  };
  const focusWord = (word) => {
    cursor?.removeAttribute("tabindex");
    cursor = word;
    word.tabIndex = -1;
    word.focus();
  };
  const setMarking = (value) => {
    sign = sign === value ? 0 : value;
    document.body.classList.toggle("marking-on", sign !== 0);
    for (const button of marking.querySelectorAll("[aria-pressed]")) button.setAttribute("aria-pressed", String(Number(button.dataset.mark) === sign));
    document.getElementById("mark-hint").textContent = sign ? "Click words, or arrows and Space; Esc ends it." : "";
    if (sign && words.length) focusWord(cursor && words.includes(cursor) ? cursor : words[0]);
  };
  if (marking && words.length) {
    marking.hidden = false;
    for (const button of marking.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const value = Number(button.dataset.mark);
        if (value) return setMarking(value);
        signs.clear(); paint(); changed();
      });
    }
    let painting = null;
    const wordAt = (event) => event.target.closest?.(".markable [data-s]");
    form.addEventListener("pointerdown", (event) => {
      const word = sign && wordAt(event);
      if (!word) return;
      painting = signs.get(word) === sign ? "off" : "on";
      mark(word, sign);
      cursor = word;
    });
    form.addEventListener("pointerover", (event) => {
      const word = painting && event.buttons && wordAt(event);
      if (word && (signs.get(word) === sign) !== (painting === "on")) mark(word, sign);
    });
    document.addEventListener("pointerup", () => { painting = null; });
  }

  // ---- Keys. Digits first choose an answer, then say how clearly; arrows always choose.
  const choose = (name, value) => {
    const input = form.querySelector(`input[name="${name}"][value="${value}"]`);
    if (!input) return false;
    input.checked = true;
    input.dispatchEvent(new Event("input", { bubbles: true }));
    return true;
  };
  const clear = (name) => { for (const input of form.querySelectorAll(`input[name="${name}"]`)) input.checked = false; };
  const open = (id, focus) => {
    const details = document.getElementById(id) || form.querySelector(id);
    if (!details) return;
    details.open = true;
    details.querySelector(focus)?.focus();
  };
  const questions = [...form.querySelectorAll("[data-question]")];
  let question = 0;
  const ask = (index) => {
    question = Math.max(0, Math.min(index, questions.length - 1));
    questions.forEach((q, i) => q.classList.toggle("current", i === question && questions.length > 1));
  };
  const digit = (n) => {
    if (ranks) return ranks.place(n);
    if (kind === "pairwise") {
      const pick = checked("pick")?.value;
      const decided = pick === "left" || pick === "right";
      if (decided && form.dataset.strength === "yes") return n >= 1 && n <= 4 && choose("strength", n);
      if (n === 1) return choose("pick", "left");
      if (n === 2) return choose("pick", "right");
    } else if (kind === "pointwise") {
      const inputs = questions[question].querySelectorAll("input");
      if (!inputs[n - 1]) return false;
      choose(inputs[n - 1].name, inputs[n - 1].value);
      ask(question + 1);
      return true;
    }
    return false;
  };
  const guide = document.getElementById("guide");
  const link = (view) => document.querySelector(`[data-view="${view}"]`);
  const help = document.getElementById("help");
  const act = {
    "0": () => choose("pick", "tie"), "b": () => choose("pick", "both_bad"),
    "ArrowLeft": () => choose("pick", "left"), "ArrowRight": () => choose("pick", "right"),
    "ArrowUp": () => questions.length > 1 && (ask(question - 1), true), "ArrowDown": () => questions.length > 1 && (ask(question + 1), true),
    "s": () => open("skip", "input"),
    "u": () => undo && !undo.hidden && undo.requestSubmit(),
    "e": () => { const side = checked("pick")?.value === "right" ? "right" : "left"; if (document.getElementById(`mend-${side}`)) open(`mend-${side}`, "textarea"); else field("text")?.focus(); },
    "r": () => { const why = document.getElementById("rationale"); if (why) { why.closest("details").open = true; why.focus(); } },
    "f": () => open(".flags", "input"),
    "g": () => { if (guide) guide.open = !guide.open; },
    "d": () => link("differences") && link(link("differences").ariaCurrent ? "formatted" : "differences").click(),
    "p": () => link("plain") && link(link("plain").ariaCurrent ? "formatted" : "plain").click(),
    "+": () => marking && setMarking(1), "-": () => marking && setMarking(-1),
    "?": () => help.showModal(),
    "Enter": () => form.requestSubmit(document.getElementById("submit")),
    "Escape": () => { if (sign) return setMarking(sign); ranks?.clear(); clear("strength"); clear("pick"); changed(); show(); },
    ...ranks?.keys,
  };
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -8, ArrowDown: 8 };
  document.addEventListener("keydown", (event) => {
    const at = event.target;
    const writing = at.matches("textarea, select, input:not([type=radio], [type=checkbox])");
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); return act.Enter(); }
    if (event.key === "Escape" && writing) { at.blur(); return; }
    if (writing || help.open || event.ctrlKey || event.metaKey || event.altKey) return;
    // What has the focus keeps its own keys.
    if (["Enter", " "].includes(event.key) && at.matches("a, button, summary")) return;
    if (at.matches("#skip input") && event.key !== "Escape" && !/^[0-9]$/.test(event.key)) return;
    if (sign && (event.key in step || event.key === " ")) {
      event.preventDefault();
      const index = words.indexOf(cursor);
      if (event.key === " ") { if (cursor) mark(cursor, sign); }
      else focusWord(words[Math.max(0, Math.min(words.length - 1, index + step[event.key]))]);
      return;
    }
    if (event.key.startsWith("Arrow") && at.matches("[data-scroll], input[type=radio]")) return;
    if (/^[1-9]$/.test(event.key)) { if (digit(Number(event.key)) !== false) event.preventDefault(); return; }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (act[key] && !event.repeat) { event.preventDefault(); act[key](); }
  });
  const opener = document.getElementById("help-open");
  opener.hidden = false;
  opener.addEventListener("click", () => help.showModal());
  form.querySelector("#skip")?.addEventListener("toggle", (event) => {
    // Once skipping is closed again, no reason is left behind.
    if (!event.target.open) clear("skip_reason");
  });

  // On a small screen guidelines stand before the task: there they are open until something was answered.
  if (guide && form.dataset.begun && matchMedia("(max-width: 62rem)").matches) guide.open = false;
  if (form.dataset.draft) say("Your draft is back");
  last = kept().replace(/"active":\d+/, "");
  unpaint();
  ask(0);
  show();
})();
