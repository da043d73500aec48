"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const pages = JSON.parse(document.getElementById("image-pages").textContent);
  const $ = (id) => document.getElementById(id);
  const native = Number(document.body.dataset.native);
  const source = (number) => "data:image/webp;base64," + data.pictures[number];
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text; // never innerHTML: names are not to be trusted
    return node;
  };
  const picture = (number, alt) => {
    const image = make("img");
    image.alt = alt;
    image.src = source(number);
    return image;
  };

  // A link to the page about one image alone, where there is one.
  const why = (key, name) => {
    if (!Object.hasOwn(pages, key)) return [];
    const link = make("a", "why-link", "why this image?");
    link.href = pages[key];
    link.setAttribute("aria-label", `why this image? ${name}`);
    return [link];
  };

  // Pictures in the markup carry a number; each is in the page once, in the data block.
  const fill = (root) => root.querySelectorAll("img[data-p]:not([src])").forEach((image) => {
    image.src = source(Number(image.dataset.p));
  });

  // --- A feature's pictures, built when it is opened -------------------------------------------------------------

  const example = (f, i) => {
    const x = data.examples[f].items[i];
    const figure = make("figure", "example" + (x.fail ? " failed" : ""));
    const button = make("button", "triple");
    button.type = "button";
    button.setAttribute("aria-label", `${x.n}: compare before and after`);
    ["original", "null edit", "edit"].forEach((role, n) => {
      const cell = make("span", "cell");
      cell.append(picture(x.p[n], ""), make("span", "role", role));
      if (x.s && x.s[n] !== "–") cell.append(make("span", "score", x.s[n]));
      button.append(cell);
    });
    button.addEventListener("click", () => openSlider(f, i, button));
    const caption = make("figcaption");
    caption.append(make("span", "file", x.n));
    x.lines.forEach((line) => caption.append(make("span", "line " + (x.s ? (x.d > 0 ? "up" : "down") : ""), line)));
    if (x.fail) caption.append(make("span", "line fail", x.fail));
    caption.append(...why(x.k, x.n));
    figure.append(button, caption);
    return figure;
  };

  const strip = (f, indices) => {
    const row = make("div", "strip");
    indices.forEach((i) => row.append(example(f, i)));
    return row;
  };

  const SVG = "http://www.w3.org/2000/svg";
  const shape = (tag, attributes) => {
    const node = document.createElementNS(SVG, tag);
    Object.entries(attributes).forEach(([key, value]) => node.setAttribute(key, value));
    return node;
  };

  // One dot for each image, so that a mean that hides two camps is seen.
  const spread = (f, block) => {
    const values = block.items.map((x) => x.d);
    const low = Math.min(0, ...values), high = Math.max(0, ...values);
    const at = (value) => 3 + ((value - low) / (high - low || 1)) * 94;
    const box = make("div", "spread");
    const svg = shape("svg", { role: "img", "aria-label":
      `Effect on each of ${values.length} images, from ${low.toFixed(2)} to ${high.toFixed(2)}` });
    svg.append(shape("line", { class: "zero", x1: at(0) + "%", x2: at(0) + "%", y1: 0, y2: "100%" }));
    const taken = [];
    block.items.forEach((x, i) => {
      const level = taken.filter((other) => Math.abs(other - at(x.d)) < 1.1).length;
      taken.push(at(x.d));
      const dot = shape("circle", { cx: at(x.d) + "%", cy: 46 - Math.min(level, 5) * 8, r: 4,
        class: (x.d > 0 ? "raises" : x.d < 0 ? "lowers" : "other") + (x.fail ? " fail" : "") });
      const title = shape("title", {});
      title.textContent = `${x.n}: ${x.lines.join("; ")}`;
      dot.append(title);
      dot.addEventListener("click", () => openSlider(f, i, null));
      svg.append(dot);
    });
    box.append(make("h4", "", "Effect on each image"), svg);
    const ends = make("p", "spread-ends");
    const says = (value) => {
      const text = Math.abs(value).toFixed(2);
      return (Number(text) === 0 ? "" : value > 0 ? "+" : "−") + text; // a zero has no sign
    };
    ends.append(make("span", "", says(low)), make("span", "", says(high)));
    box.append(ends);
    return box;
  };

  const build = (panel) => {
    if (panel.dataset.built) return;
    panel.dataset.built = "yes";
    const f = Number(panel.dataset.panel), block = data.examples[f];
    if (!block || !block.items.length) return;
    if (block.items[0].s && block.items.length > 3) panel.append(spread(f, block));
    const strips = make("div", "strips");
    block.parts.forEach(([title, indices]) => strips.append(make("h4", "", title), strip(f, indices)));
    panel.append(strips);
    const shown = block.parts.reduce((n, [, indices]) => n + indices.length, 0);
    if (block.items.length > shown) {
      const more = make("button", "more", `Show all ${block.items.length} images, by effect`);
      more.type = "button";
      more.addEventListener("click", () => {
        const all = strip(f, block.items.keys());
        strips.replaceChildren(make("h4", "", `All ${block.items.length} images, by effect`), all);
        more.remove();
        all.querySelector("button").focus();
      });
      panel.append(more);
    }
    if (block.total > block.items.length) {
      panel.append(make("p", "note", `This page holds ${block.items.length} of the ${block.total} images of this feature.`));
    }
  };

  const opened = (details) => {
    if (!details.open) return;
    fill(details);
    details.querySelectorAll("[data-panel]").forEach(build);
  };
  document.querySelectorAll("details").forEach((details) => {
    details.addEventListener("toggle", () => opened(details));
    opened(details);
  });
  document.querySelectorAll(".panel.open").forEach(build);
  fill(document);

  // --- The before/after slider -----------------------------------------------------------------------------------

  const dialog = $("slider"), cut = $("cut"), stage = $("stage");
  let at = { f: 0, i: 0 }, opener = null;

  const showSlider = () => {
    const block = data.examples[at.f], x = block.items[at.i], original = $("slider-original").checked;
    $("slider-title").textContent = block.name;
    $("slider-where").textContent = `${x.n}, image ${at.i + 1} of ${block.items.length} by effect`;
    const before = original ? 0 : 1, from = original ? "original" : "null edit";
    $("slider-before").src = source(x.p[before]);
    $("slider-before").alt = from;
    $("slider-after").src = source(x.p[2]);
    $("slider-after").alt = "edit";
    $("slider-from").textContent = from;
    const lines = x.s ? [`${x.s[1]} → ${x.s[2]}  (${x.lines.join(", ")})`] : x.lines;
    const said = [...lines, ...(x.fail ? [x.fail] : [])].map((line) => make("span", "", line));
    $("slider-lines").replaceChildren(...said, ...why(x.k, x.n));
    $("slider-prev").disabled = at.i === 0;
    $("slider-next").disabled = at.i === block.items.length - 1;
  };
  const setCut = () => stage.style.setProperty("--cut", cut.value + "%");
  const openSlider = (f, i, from) => {
    at = { f, i };
    opener = from;
    cut.value = 50;
    setCut();
    showSlider();
    dialog.showModal();
    cut.focus();
  };
  const step = (by) => {
    const to = at.i + by;
    if (to < 0 || to >= data.examples[at.f].items.length) return;
    at.i = to;
    showSlider();
  };
  cut.addEventListener("input", setCut);
  $("slider-original").addEventListener("change", showSlider);
  $("slider-prev").addEventListener("click", () => step(-1));
  $("slider-next").addEventListener("click", () => step(1));
  $("slider-close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", () => opener && opener.focus());
  const drag = (event) => {
    const box = stage.getBoundingClientRect();
    cut.value = ((event.clientX - box.left) / box.width) * 100;
    setCut();
  };
  stage.addEventListener("pointerdown", (event) => { stage.setPointerCapture(event.pointerId); drag(event); });
  stage.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
  // Small pictures grow by a whole number of times, so that their pixels stay square and even.
  const size = Math.min(512, innerWidth - 64);
  stage.style.width = (native <= 128 ? Math.max(1, Math.floor(size / native)) * native : size) + "px";

  document.querySelectorAll(".shot").forEach((shot) => shot.after(...why(shot.dataset.k, shot.querySelector(".shot-name").textContent)));
  document.querySelectorAll(".shot").forEach((shot) => shot.addEventListener("click", () => {
    const f = Number(shot.dataset.f);
    openSlider(f, Math.max(0, data.examples[f].items.findIndex((x) => x.k === shot.dataset.k)), shot);
  }));

  // --- Sort, filter, search ----------------------------------------------------------------------------------------

  const list = $("features"), items = [...list.children];
  const numeric = (key, sign) => (a, b) => sign * (Number(a.dataset[key]) - Number(b.dataset[key]));
  const orders = {
    rank: numeric("rank", 1), effect: numeric("effect", -1), lowering: numeric("effect", 1),
    magnitude: numeric("magnitude", -1), flip: numeric("flip", -1), change: numeric("change", -1),
    name: (a, b) => a.dataset.name.localeCompare(b.dataset.name, "en", { sensitivity: "base" }),
  };
  const sortBy = (key) => {
    $("sort").value = key;
    document.querySelectorAll("[data-sort]").forEach((button) =>
      button.setAttribute("aria-pressed", String(button.dataset.sort === key)));
    items.sort(orders[key]).forEach((item) => list.append(item)); // sort is stable: ties keep their order
  };
  const filter = () => {
    const words = $("find").value.toLowerCase().split(/\s+/).filter(Boolean);
    const decision = $("by-decision").value, group = $("by-group").value;
    let shown = 0;
    items.forEach((item) => {
      const text = item.dataset.text.toLowerCase();
      item.hidden = !((!decision || item.dataset.decision === decision) && (!group || item.dataset.group === group)
        && words.every((word) => text.includes(word)));
      shown += item.hidden ? 0 : 1;
    });
    $("none").hidden = shown > 0;
    const all = `${items.length} feature${items.length === 1 ? "" : "s"}`;
    $("count").textContent = shown === items.length ? all : `${shown} of ${all}`;
  };
  $("tools").addEventListener("submit", (event) => event.preventDefault());
  $("find").addEventListener("input", filter);
  ["by-decision", "by-group"].forEach((id) => $(id).addEventListener("change", filter));
  $("sort").addEventListener("change", () => sortBy($("sort").value));
  document.querySelectorAll("[data-sort]").forEach((button) => button.addEventListener("click", () =>
    sortBy(button.dataset.sort === "effect" && $("sort").value === "effect" ? "lowering" : button.dataset.sort)));
  const clear = () => {
    $("find").value = $("by-decision").value = $("by-group").value = "";
    filter();
  };
  $("clear").addEventListener("click", () => { clear(); $("find").focus(); });

  // --- Links into the list, and printing ---------------------------------------------------------------------------

  const follow = () => {
    const target = /^#f-\d+$/.test(location.hash) && $(location.hash.slice(1));
    if (!target) return;
    if (target.hidden) clear();
    target.querySelector("details").open = true;
    target.scrollIntoView({ block: "start" });
    target.querySelector("summary").focus({ preventScroll: true });
  };
  addEventListener("hashchange", follow);
  follow();

  // On paper nothing opens: show the strongest features and every group.
  let printed = [];
  addEventListener("beforeprint", () => {
    printed = [...items.filter((item) => !item.hidden).slice(0, 6).map((item) => item.querySelector("details")),
      ...document.querySelectorAll(".branch")].filter((details) => !details.open);
    printed.forEach((details) => { details.open = true; opened(details); });
  });
  addEventListener("afterprint", () => printed.forEach((details) => { details.open = false; }));
})();
