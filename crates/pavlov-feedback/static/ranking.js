// The order of a ranking, by number keys or by clicks. The form's own fields hold it; without this script they are what one sees.
"use strict";
globalThis.ranking = (form) => {
  const box = document.getElementById("ranking");
  const fields = [...box.querySelectorAll("select")];
  const bad = form.elements.namedItem("all_bad");
  const [list, rest, said] = [".order", ".unplaced", ".said"].map((part) => box.querySelector(part));
  const numbers = fields.map((_, i) => i + 1);
  // Answers by their numbers on the screen, the best first, equals together; and the one that was placed last.
  let groups = [], last = null;

  const read = () => {
    const places = new Map();
    fields.forEach((field, i) => { if (field.value) places.set(Number(field.value), [...(places.get(Number(field.value)) || []), i + 1]); });
    groups = [...places].sort(([a], [b]) => a - b).map(([, group]) => group);
    last = groups.at(-1)?.at(-1) ?? null;
  };
  const at = (n) => groups.findIndex((group) => group.includes(n));
  const write = () => {
    if (groups.length) bad.checked = false;
    fields.forEach((field, i) => { field.value = at(i + 1) < 0 ? "" : String(at(i + 1) + 1); });
    fields[0].dispatchEvent(new Event("input", { bubbles: true }));
  };
  const take = (n) => { groups = groups.map((group) => group.filter((one) => one !== n)).filter((group) => group.length); };

  const place = (n) => {
    if (n > fields.length) return false;
    if (at(n) < 0) groups.push([n]);
    last = n;
    write();
    return true;
  };
  const equal = (n) => {
    const i = at(n);
    if (i < 0 || (i === 0 && groups[0].length === 1)) return;
    const alone = groups[i].length === 1;
    if (alone) { groups[i - 1] = [...groups[i - 1], n].sort(); groups.splice(i, 1); } else { take(n); groups.splice(i + 1, 0, [n]); }
    last = n;
    write();
  };
  const move = (n, step) => {
    const i = at(n);
    if (i < 0) return;
    if (groups[i].length > 1) { take(n); groups.splice(step < 0 ? i : i + 1, 0, [n]); }
    else if (groups[i + step]) { [groups[i], groups[i + step]] = [groups[i + step], groups[i]]; }
    last = n;
    write();
  };
  const remove = (n) => { take(n); last = groups.at(-1)?.at(-1) ?? null; write(); };
  const clear = () => { groups = []; last = null; bad.checked = false; write(); };
  bad.addEventListener("input", () => { if (bad.checked) { groups = []; last = null; write(); } });

  const button = (n, name, text, label, act) => {
    const one = document.createElement("button");
    Object.assign(one, { type: "button", textContent: text });
    one.dataset.does = `${name} ${n}`;
    if (label) one.setAttribute("aria-label", label);
    one.addEventListener("click", () => act(n));
    return one;
  };
  const row = (n, i) => {
    const one = document.createElement("span");
    one.className = "ranked";
    one.classList.toggle("last", n === last);
    one.append(`Answer ${n}`, button(n, "up", "↑", `Answer ${n} up`, (n) => move(n, -1)), button(n, "down", "↓", `Answer ${n} down`, (n) => move(n, 1)),
      button(n, "equal", "=", groups[i].length > 1 ? `Answer ${n} apart` : `Answer ${n} equal to the one before`, equal), button(n, "remove", "×", `Answer ${n} has no place`, remove));
    return one;
  };
  const words = () => {
    const left = numbers.filter((n) => at(n) < 0);
    if (bad.checked) return "None of them will do.";
    if (!groups.length) return "Press the numbers of the answers, the best first, or click them.";
    const order = `Best is ${groups.map((group) => group.join(" and ")).join(", then ")}.`;
    return left.length ? `${order} Without a place: ${left.join(", ")}.` : `${order} That is all of them.`;
  };
  const badges = [...form.querySelectorAll(".answer")].map((answer) => {
    const badge = document.createElement("span");
    badge.className = "rank";
    answer.querySelector("header").append(badge);
    return badge;
  });
  const show = () => {
    const focused = document.activeElement?.dataset?.does;
    const better = (i) => groups.slice(0, i).flat().length;
    list.replaceChildren(...groups.map((group, i) => {
      const item = document.createElement("li");
      item.dataset.rank = better(i) + 1;
      item.append(...group.map((n) => row(n, i)));
      return item;
    }));
    list.hidden = !groups.length;
    rest.replaceChildren(...numbers.filter((n) => at(n) < 0).map((n) => {
      const one = button(n, "place", `Answer ${n} `, "", place);
      const key = document.createElement("kbd");
      key.setAttribute("aria-hidden", "true");
      key.textContent = n;
      one.append(key);
      return one;
    }));
    badges.forEach((badge, i) => { badge.textContent = at(i + 1) < 0 ? "" : at(i + 1) === 0 ? "best" : `${better(at(i + 1)) + 1}`; });
    if (said.textContent !== words()) said.textContent = words();
    // The list is made anew: what had the focus has it again, or the next thing to press.
    if (focused) (box.querySelector(`[data-does="${focused}"]`) || box.querySelector(`[data-does="${focused.replace("place", "up")}"]`) || rest.querySelector("button") || bad).focus();
  };
  box.querySelector(".places").hidden = true;
  box.querySelector(".chooser").hidden = false;
  read();
  show();
  return {
    place, show,
    complete: () => bad.checked || numbers.every((n) => at(n) >= 0),
    clear,
    keys: {
      "=": () => equal(last), "ArrowUp": () => move(last, -1), "ArrowDown": () => move(last, 1), "Backspace": () => { if (last) remove(last); },
      "b": () => { bad.checked = !bad.checked; bad.dispatchEvent(new Event("input", { bubbles: true })); },
    },
  };
};
