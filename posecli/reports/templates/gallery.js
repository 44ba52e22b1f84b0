"use strict";
// The gallery of posecli: draws the items of #data, filters, sorts, shows one large. No library, no network.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const items = data.items;
  const CHUNK = 60; // cards made at a time, as the reader comes near the end
  const by = (id) => document.getElementById(id);
  const make = (name, attributes = {}, ...inside) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...inside);
    return element;
  };
  const shape = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  // ---- drawing ----
  const sideOf = (skeleton, joint) => ["middle", "left", "right"][skeleton.side[joint]];
  const limbSide = (skeleton, a, b) => {
    const sides = new Set([skeleton.side[a], skeleton.side[b]]);
    if (sides.size === 2 && sides.has(0)) sides.delete(0);
    return sides.size === 1 ? ["middle", "left", "right"][[...sides][0]] : "middle";
  };
  const drawPerson = (svg, person, skeleton, kind, names, size) => {
    const k = person.k;
    const seen = skeleton.names.map((_, j) => j).filter((j) => k[3 * j + 2]);
    const extent = seen.length ? Math.max(...[0, 1].map((c) => Math.max(...seen.map((j) => k[3 * j + c])) - Math.min(...seen.map((j) => k[3 * j + c])))) : 0;
    // Thin lines for people far off: thick ones would hide them.
    const group = shape("g", { class: extent < 0.3 * size ? `${kind} small` : kind });
    const limbs = { left: "", right: "", middle: "" }, dots = { left: "", right: "", middle: "" };
    let hidden = "", all = "";
    for (const [a, b] of skeleton.edges) {
      if (!k[3 * a + 2] || !k[3 * b + 2]) continue;
      const path = `M${k[3 * a]} ${k[3 * a + 1]}L${k[3 * b]} ${k[3 * b + 1]}`;
      limbs[limbSide(skeleton, a, b)] += path;
      all += path;
    }
    for (let j = 0; j < skeleton.names.length; j++) {
      if (!k[3 * j + 2]) continue;
      const path = `M${k[3 * j]} ${k[3 * j + 1]}h0.01`;
      dots[sideOf(skeleton, j)] += path;
      all += path;
      if (k[3 * j + 2] === 1) hidden += path;
    }
    if (person.b) group.append(shape("path", { class: "edge", d: `M${person.b[0]} ${person.b[1]}h${person.b[2]}v${person.b[3]}h${-person.b[2]}z` }));
    group.append(shape("path", { class: "rim", d: all }));
    for (const side of ["middle", "right", "left"]) if (limbs[side]) group.append(shape("path", { class: `bone ${side}`, d: limbs[side] }));
    for (const side of ["middle", "right", "left"]) if (dots[side]) group.append(shape("path", { class: `dot ${side}`, d: dots[side] }));
    if (hidden) group.append(shape("path", { class: "inner", d: hidden }));
    if (names) {
      for (let j = 0; j < skeleton.names.length; j++) {
        if (!k[3 * j + 2]) continue;
        const text = shape("text", { x: k[3 * j] + size / 120, y: k[3 * j + 1], "font-size": size / 75 });
        text.textContent = skeleton.names[j];
        group.append(text);
      }
    }
    svg.append(group);
  };
  const drawView = (item, names = false) => {
    const view = make("div", { class: "view" });
    // Picture and drawing both fit themselves into the view's middle, and have the same proportions.
    const svg = shape("svg", { viewBox: `-0.5 -0.5 ${item.w} ${item.h}`, "aria-hidden": "true" });
    const size = Math.max(item.w, item.h);
    if (item.i !== null) view.append(make("img", { src: item.i, alt: "", loading: "lazy", decoding: "async" }));
    else {
      const words = shape("text", { class: "blank", x: item.w / 2, y: item.h / 2, "font-size": size / 18, "text-anchor": "middle" });
      words.textContent = "no picture";
      svg.append(shape("rect", { class: "blank", x: -0.5, y: -0.5, width: item.w, height: item.h }), words);
    }
    // Names of one kind only: two would lie on each other.
    for (const person of item.g) drawPerson(svg, person, data.labels, "label", names, size);
    for (const person of item.p) drawPerson(svg, person, data.found, "found", names && !data.labels, size);
    view.append(svg);
    return view;
  };
  const share = (value) => (value === null || value === undefined ? "–" : value.toFixed(2));
  const facts = (item) => {
    const said = [];
    if (data.labels) said.push(`${item.g.length} labelled`);
    if (data.found) said.push(`${item.p.length} found`);
    if (item.s !== null && item.s !== undefined) said.push(`score ${share(item.s)}`);
    if (item.e !== null && item.e !== undefined) said.push(`${data.measure} ${share(item.e)}`);
    if (item.m) said.push(`${item.m} missed`);
    if (item.f) said.push(`${item.f} false`);
    return said.join(", ");
  };

  // ---- filters ----
  const number = (id) => { const field = by(id); return field && field.value !== "" ? Number(field.value) : null; };
  const choice = (id) => { const field = by(id); return field ? field.value : ""; };
  const hasJoint = (people, skeleton, name) => {
    const at = skeleton ? skeleton.names.indexOf(name) : -1;
    return at >= 0 && people.some((person) => person.k[3 * at + 2] > 0);
  };
  const fits = () => {
    const words = choice("text").toLowerCase().split(/\s+/).filter(Boolean);
    const tag = choice("tag"), joint = choice("joint"), people = choice("people"), error = choice("error");
    const low = number("score-from"), high = number("score-to"), from = number("value-from"), to = number("value-to");
    const within = (value, a, b) => (a === null && b === null) || (value !== null && value !== undefined && (a === null || value >= a) && (b === null || value <= b));
    return (item) => {
      const count = Math.max(item.g.length, item.p.length);
      return words.every((word) => item.find.includes(word))
        && (tag === "" || item.t.includes(Number(tag)))
        && (joint === "" || hasJoint(item.g, data.labels, joint) || hasJoint(item.p, data.found, joint))
        && (people === "" || (people === "2" ? count >= 2 : count === Number(people)))
        && within(item.s, low, high) && within(item.e, from, to)
        && (error === "" || (error === "missed" ? item.m > 0 : error === "false" ? item.f > 0 : !item.m && !item.f));
    };
  };
  // Items without a value come last, whichever way the order runs.
  const rising = (value, sign = 1) => (a, b) => {
    const [x, y] = [value(a), value(b)];
    const [noX, noY] = [x === null || x === undefined, y === null || y === undefined];
    return noX || noY ? noX - noY : sign * (x - y);
  };
  const ORDERS = {
    worst: (a, b) => rising((i) => i.e)(a, b) || b.m + b.f - a.m - a.f,
    best: rising((i) => i.e, -1),
    score: rising((i) => i.s, -1),
    unsure: rising((i) => i.s),
    people: rising((i) => Math.max(i.g.length, i.p.length), -1),
    name: (a, b) => a.n.localeCompare(b.n, undefined, { numeric: true }),
  };

  // ---- the grid ----
  const grid = by("grid"), status = by("status"), large = by("large");
  let shown = items, made = 0, current = -1;
  const card = (item, place) => {
    const button = make("button", { type: "button", class: "card", "data-place": place, tabindex: place ? -1 : 0, "aria-label": `${item.n}: ${facts(item)}` });
    button.append(drawView(item), make("div", { class: "words" },
      make("div", { class: "name", title: item.n }, item.n), make("div", { class: "facts" }, facts(item))));
    return make("li", {}, button);
  };
  const more = () => {
    const part = document.createDocumentFragment();
    for (const end = Math.min(made + CHUNK, shown.length); made < end; made++) part.append(card(shown[made], made));
    grid.append(part);
  };
  const update = () => {
    const order = ORDERS[choice("order")];
    shown = items.filter(fits());
    if (order) shown.sort(order);
    made = 0;
    grid.replaceChildren();
    more();
    by("none").hidden = shown.length > 0;
    status.replaceChildren(make("strong", {}, `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")}`),
      items.length < data.of ? ` frames (of ${data.of.toLocaleString("en")} in the data)` : " frames");
    grid.dataset.shown = shown.length;
  };
  const looks = () => {
    const states = { "hide-label": by("show-label") && !by("show-label").checked, "hide-found": by("show-found") && !by("show-found").checked, "hide-edge": !by("show-edge").checked, "by-side": by("show-sides").checked };
    for (const [name, on] of Object.entries(states)) for (const place of [grid, by("large-view")]) place.classList.toggle(name, Boolean(on));
    if (large.open) by("large-view").replaceChildren(drawView(shown[current], by("show-names").checked));
  };

  // ---- one large ----
  const peopleTable = (item) => {
    const rows = [...item.g.map((p) => ["label", p]), ...item.p.map((p) => ["prediction", p])];
    if (!rows.length) return make("p", {}, "nobody");
    const head = ["", "id", "joints", "score", ...(data.measure ? [data.measure] : [])];
    const cell = (kind, text) => make(kind, {}, text);
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map((h) => cell("th", h)))));
    const body = make("tbody");
    for (const [kind, p] of rows) {
      let joints = 0;
      for (let j = 2; j < p.k.length; j += 3) joints += p.k[j] > 0;
      const cells = [kind, p.id === null || p.id === undefined ? "–" : String(p.id), String(joints), share(p.s), ...(data.measure ? [p.note || share(p.o)] : [])];
      body.append(make("tr", {}, ...cells.map((c) => cell("td", c))));
    }
    table.append(body);
    return table;
  };
  const open = (place) => {
    if (place < 0 || place >= shown.length) return;
    while (place >= made) more();
    current = place;
    const item = shown[place];
    by("large-name").textContent = item.n;
    by("large-place").textContent = `${(place + 1).toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    by("large-view").replaceChildren(drawView(item, by("show-names").checked));
    by("large-people").replaceChildren(make("p", {}, [facts(item), item.t.map((t) => data.tags[t]).join(", ")].filter(Boolean).join(" · ")), peopleTable(item));
    by("previous").disabled = place === 0;
    by("next").disabled = place === shown.length - 1;
    if (!large.open) large.showModal();
  };
  const focus = (place) => {
    if (place < 0 || place >= shown.length) return;
    while (place >= made) more();
    for (const button of grid.querySelectorAll("button[tabindex='0']")) button.tabIndex = -1;
    const button = grid.children[place].firstElementChild;
    button.tabIndex = 0;
    button.focus();
  };
  const columns = () => {
    const cards = grid.children;
    let count = 1;
    while (count < cards.length && cards[count].offsetTop === cards[0].offsetTop) count++;
    return count;
  };

  // ---- what people do ----
  const press = (id) => { const field = by(id); if (field) { field.checked = !field.checked; looks(); } };
  const typing = (target) => target.matches("input[type=search], input[type=number], select");
  grid.addEventListener("click", (event) => { const button = event.target.closest(".card"); if (button) open(Number(button.dataset.place)); });
  large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
  large.addEventListener("close", () => focus(current));
  by("previous").addEventListener("click", () => open(current - 1));
  by("next").addEventListener("click", () => open(current + 1));
  by("close").addEventListener("click", () => large.close());
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("filters").addEventListener("input", (event) => { if (event.target.type === "checkbox") looks(); else update(); });
  by("filters").addEventListener("reset", () => setTimeout(() => { update(); looks(); }));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) {
      if (event.key === "Escape" && event.target.id === "text") event.target.blur();
      return;
    }
    const place = event.target.closest && event.target.closest(".card") ? Number(event.target.closest(".card").dataset.place) : -1;
    const wide = columns();
    const moves = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: wide, ArrowUp: -wide };
    if (event.key === "/") { event.preventDefault(); if (large.open) large.close(); by("text").focus(); }
    else if (event.key === "l") press("show-label");
    else if (event.key === "p") press("show-found");
    else if (event.key === "b") press("show-edge");
    else if (event.key === "s") press("show-sides");
    else if (event.key === "n") press("show-names");
    else if (large.open && event.key === "ArrowRight") open(current + 1);
    else if (large.open && event.key === "ArrowLeft") open(current - 1);
    else if (!large.open && place >= 0 && event.key in moves) { event.preventDefault(); focus(place + moves[event.key]); }
    else if (!large.open && place >= 0 && event.key === "Home") { event.preventDefault(); focus(0); }
    else if (!large.open && place >= 0 && event.key === "End") { event.preventDefault(); focus(shown.length - 1); }
  });

  for (const item of items) item.find = [item.n, ...item.t.map((t) => data.tags[t])].join(" ").toLowerCase();
  // It tells of changes alone, so it is asked anew after each: a window may be larger than all cards made so far.
  const nearEnd = new IntersectionObserver((entries) => {
    if (entries.some((e) => e.isIntersecting) && made < shown.length) { more(); watch(); }
  }, { rootMargin: "800px" });
  const watch = () => { nearEnd.unobserve(by("more")); nearEnd.observe(by("more")); };
  by("filters").addEventListener("input", watch);
  by("filters").addEventListener("reset", () => setTimeout(watch));
  window.addEventListener("beforeprint", () => { while (made < shown.length && made < 600) more(); });
  update();
  looks();
  watch();
})();
