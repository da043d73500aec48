(() => {
  const block = document.getElementById("gallery-data");
  if (!block) return;
  const g = JSON.parse(block.textContent), $ = (id) => document.getElementById(id);
  const pages = JSON.parse($("image-pages").textContent), FLIP = 1, ALREADY = 2, FAILED = 4;
  const make = (tag, className, text) => {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined) node.textContent = text; // never innerHTML: names are not to be trusted
    return node;
  };
  const says = (value) => {
    const text = Math.abs(value).toFixed(g.digits);
    return (Number(text) === 0 ? "" : value > 0 ? "+" : "−") + text;
  };
  const shade = (value) => {
    const step = Math.min(8, Math.ceil((Math.abs(value) / g.peak) * 8 - 0.25));
    return step < 1 ? "s-0" : (value > 0 ? "s-up-" : "s-down-") + step;
  };
  const why = (flag) => (flag & ALREADY ? "was so already" : flag & FAILED ? "edit failed" : flag & FLIP ? "flips" : "");
  const url = (text) => `url("${"data:image/webp;base64," + text}")`;

  // --- The table: built once, rows and columns are only moved -------------------------------------------------------

  const table = $("gallery-table"), head = table.tHead.rows[0], body = table.tBodies[0], foot = table.tFoot.rows[0];
  if (g.thumbs) table.style.setProperty("--thumbs", url(g.thumbs));
  const heads = g.features.map((feature, j) => {
    const cell = make("th");
    cell.scope = "col";
    cell.tabIndex = -1;
    cell.dataset.j = j;
    cell.title = `${feature.n} (${feature.g}): ${feature.d}`;
    cell.append(make("span", "", feature.n));
    return cell;
  });
  const sums = g.features.map(() => make("td"));
  const rows = g.images.map((image, i) => {
    const row = make("tr"), name = make("th");
    row.dataset.i = i;
    name.scope = "row";
    name.tabIndex = -1;
    if (g.thumbs) {
      const thumb = make("i", "thumb");
      thumb.setAttribute("aria-hidden", "true");
      thumb.style.backgroundPosition = `0 ${-i * 26}px`;
      name.append(thumb);
    }
    const file = make("span"), text = make("bdi", "", image.n.split("/").pop() || image.n);
    text.dir = "ltr"; // the span runs from right to left, so that a long name loses its start: the end tells images apart
    file.append(text);
    name.append(file);
    name.title = image.n;
    row.append(name);
    const cells = g.features.map((feature, j) => {
      const cell = make("td"), flag = g.flags[i][j], effect = g.effects[i][j];
      cell.className = (flag & ALREADY ? "already" : shade(effect) + (flag & FAILED ? " failed" : "")) + (flag & FLIP ? " flip" : "");
      cell.tabIndex = -1;
      cell.dataset.j = j;
      const also = why(flag);
      cell.setAttribute("aria-label", says(effect) + (also ? `, ${also}` : ""));
      cell.title = `${feature.n}, ${image.n}: ${says(effect)}${also ? `, ${also}` : ""}`;
      return cell;
    });
    return { row, cells };
  });

  // --- Order and filter ---------------------------------------------------------------------------------------------

  const rank = g.features.map((_, j) => j), range = g.images.map((_, i) => i);
  const size = range.map((i) => g.effects[i].reduce((sum, x, j) => sum + (g.flags[i][j] & ALREADY ? 0 : Math.abs(x)), 0));
  const counted = (i, j) => !(g.flags[i][j] & ALREADY); // an effect that is not shown orders nothing
  let byFeature = -1, shown = [], columns = [];
  const imageOrder = () => {
    const how = $("gallery-images").value;
    if (byFeature >= 0) {
      const has = range.filter((i) => counted(i, byFeature)), others = range.filter((i) => !counted(i, byFeature));
      return [...has.sort((a, b) => g.effects[b][byFeature] - g.effects[a][byFeature]), ...others];
    }
    if (how === "score") return [...range].sort((a, b) => g.images[b].v - g.images[a].v);
    if (how === "size") return [...range].sort((a, b) => size[b] - size[a]);
    if (how === "name") return [...range].sort((a, b) => g.images[a].n.localeCompare(g.images[b].n, "en", { numeric: true }));
    return g.alike[0];
  };
  const featureOrder = () => {
    const how = $("gallery-features").value;
    if (how === "alike") return g.alike[1];
    if (how === "group") return [...rank].sort((a, b) => g.features[a].g.localeCompare(g.features[b].g, "en") || a - b);
    return rank;
  };
  const filters = [...document.querySelectorAll("#gallery-tools select[data-column]")];
  const passes = (i) => filters.every((f) => f.value === "" || g.images[i].c[Number(f.dataset.column)] === Number(f.value));
  const arrange = () => {
    columns = featureOrder();
    shown = imageOrder().filter(passes);
    head.replaceChildren(head.cells[0], ...columns.map((j) => heads[j]));
    rows.forEach(({ row, cells }) => row.replaceChildren(row.cells[0], ...columns.map((j) => cells[j])));
    body.replaceChildren(...shown.map((i) => rows[i].row));
    heads.forEach((cell, j) => cell.setAttribute("aria-sort", j === byFeature ? "descending" : "none"));
    columns.forEach((j) => {
      const some = shown.filter((i) => counted(i, j)).map((i) => g.effects[i][j]);
      const mean = some.length ? some.reduce((a, b) => a + b, 0) / some.length : NaN;
      sums[j].className = some.length ? shade(mean) : "already";
      sums[j].title = `${g.features[j].n}: ` + (some.length ? `${says(mean)} on average over ${some.length}` : "no image");
      sums[j].setAttribute("aria-label", some.length ? `mean ${says(mean)}` : "no image");
    });
    foot.replaceChildren(foot.cells[0], ...columns.map((j) => sums[j]));
    $("gallery-none").hidden = shown.length > 0;
    const all = `${g.images.length} image${g.images.length === 1 ? "" : "s"}`;
    const by = byFeature >= 0 ? `, by the effect of ${g.features[byFeature].n}` : "";
    $("gallery-count").textContent = (shown.length === g.images.length ? all : `${shown.length} of ${all}`) + by;
    if (!table.querySelector('[tabindex="0"]')) rest();
  };
  const rest = () => {
    table.querySelectorAll('[tabindex="0"]').forEach((cell) => { cell.tabIndex = -1; });
    const first = shown.length ? rows[shown[0]].row.cells[0] : head.cells[1];
    if (first) first.tabIndex = 0;
  };
  const changed = () => { arrange(); rest(); };
  $("gallery-tools").addEventListener("submit", (event) => event.preventDefault());
  $("gallery-images").addEventListener("change", () => { byFeature = -1; changed(); });
  [$("gallery-features"), ...filters].forEach((select) => select.addEventListener("change", changed));

  // --- One image's strip ----------------------------------------------------------------------------------------------

  const strip = $("gallery-strip");
  let opener = null;
  const tile = (at, name, value, chosen, note) => {
    const item = make("li", chosen ? "chosen" : "");
    if (g.sprites.length && at < g.tiles) {
      const picture = make("span", "tile");
      picture.style.backgroundPosition = `calc(${-at} * var(--tile)) 0`;
      item.append(picture);
    }
    item.append(make("span", "score", value), make("span", "tile-name", name));
    if (note) item.append(make("span", "role", note));
    return item;
  };
  const show = (i, j) => {
    const image = g.images[i], list = make("ol", "tiles");
    list.tabIndex = 0; // it scrolls
    list.setAttribute("aria-label", `Edits of ${image.n}, the largest effects first`);
    if (g.sprites.length) {
      strip.style.setProperty("--sprite", url(g.sprites[i]));
      strip.style.setProperty("--tiles", g.tiles);
    }
    list.append(tile(0, "the image", image.s[0], false), tile(1, "null edit", image.s[1], false));
    [...rank].sort((a, b) => (b === j) - (a === j) || counted(i, b) - counted(i, a) || Math.abs(g.effects[i][b]) - Math.abs(g.effects[i][a])).forEach((f) =>
      list.append(tile(f + 2, g.features[f].n, says(g.effects[i][f]), f === j, why(g.flags[i][f]))));
    const title = make("h3", "", image.n), close = make("button", "plain", "✕");
    close.type = "button";
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", hide);
    const line = make("div", "slider-head");
    const left = make("div");
    left.append(title);
    if (Object.hasOwn(pages, image.k)) {
      const link = make("a", "why-link", "why this image?");
      link.href = pages[image.k];
      left.append(link);
    }
    line.append(left, close);
    strip.replaceChildren(line, list);
    strip.hidden = false;
    body.querySelectorAll(".open").forEach((row) => row.classList.remove("open"));
    rows[i].row.classList.add("open");
    opener = j === undefined ? rows[i].row.cells[0] : rows[i].cells[j];
    title.tabIndex = -1;
    title.focus({ preventScroll: true });
    strip.scrollIntoView({ block: "nearest" });
  };
  const hide = () => {
    strip.hidden = true;
    body.querySelectorAll(".open").forEach((row) => row.classList.remove("open"));
    if (opener) opener.focus();
  };
  strip.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });

  // --- Mouse and keys: one cell of the grid can be tabbed to, the arrows move -----------------------------------------

  const go = (cell) => {
    table.querySelectorAll('[tabindex="0"]').forEach((each) => { each.tabIndex = -1; });
    cell.tabIndex = 0;
    cell.focus();
  };
  const use = (cell) => {
    if (cell.parentNode === head) {
      if (cell.dataset.j === undefined) return;
      byFeature = byFeature === Number(cell.dataset.j) ? -1 : Number(cell.dataset.j);
      arrange();
      go(cell);
    } else if (cell.parentNode.dataset.i !== undefined) {
      const j = cell.dataset.j;
      show(Number(cell.parentNode.dataset.i), j === undefined ? undefined : Number(j));
    }
  };
  table.addEventListener("click", (event) => {
    const cell = event.target.closest("th, td");
    if (cell) use(cell);
  });
  const grid = () => [head, ...body.rows];
  table.addEventListener("keydown", (event) => {
    const cell = event.target.closest("th, td");
    if (!cell) return;
    const lines = grid(), r = lines.indexOf(cell.parentNode), c = cell.cellIndex, last = columns.length;
    const to = {
      ArrowUp: [r - 1, c], ArrowDown: [r + 1, c], ArrowLeft: [r, c - 1], ArrowRight: [r, c + 1],
      Home: [event.ctrlKey ? 1 : r, 0], End: [event.ctrlKey ? lines.length - 1 : r, last],
      PageUp: [r - 10, c], PageDown: [r + 10, c],
    }[event.key];
    if (to) {
      const line = Math.max(0, Math.min(lines.length - 1, to[0]));
      go(lines[line].cells[Math.max(line ? 0 : 1, Math.min(last, to[1]))]);
    } else if (event.key === "Enter" || event.key === " ") {
      use(cell);
    } else return;
    event.preventDefault();
  });
  changed();
})();
