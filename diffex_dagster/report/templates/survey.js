"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const CANNOT_TELL = "I cannot tell", RATINGS = ["1", "2", "3", "4", "5"];
  const below = (n) => crypto.getRandomValues(new Uint32Array(1))[0] % n;
  const shuffled = (list) => {
    const items = [...list];
    for (let i = items.length - 1; i > 0; i -= 1) {
      const j = below(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  };
  const participant = [...crypto.getRandomValues(new Uint8Array(6))].map((b) => b.toString(16).padStart(2, "0")).join("");

  // An attention check borrows the pictures and the options of a real question, and says what to answer.
  const edits = data.examples.filter((q) => q.kind === "edit");
  const order = shuffled(data.examples.map((q, i) => ({ ...q, id: i }))).map((q) => {
    const from = q.kind === "check" ? edits[below(edits.length)] : q;
    const options = [...shuffled(from.options), CANNOT_TELL];
    return { ...q, p: from.p, options, correct: q.kind === "check" ? options[below(options.length)] : q.correct };
  });
  const answers = [];
  let at = -1, since = 0;

  const radios = (box, name, values) => {
    box.replaceChildren(...values.map((value) => {
      const label = document.createElement("label"), input = document.createElement("input");
      input.type = "radio";
      input.name = name;
      input.value = value;
      input.required = true;
      label.append(input, " " + value);
      return label;
    }));
  };

  const ask = () => {
    at += 1;
    if (at === order.length) return finish();
    const q = order[at];
    $("progress").textContent = `${at + 1} of ${order.length}`;
    $("pictures").replaceChildren(...q.p.map((number, i) => {
      const figure = document.createElement("figure"), image = document.createElement("img");
      image.src = "data:image/webp;base64," + data.pictures[number];
      image.alt = i ? "the edited picture" : "the picture before the edit";
      const caption = document.createElement("figcaption");
      caption.textContent = i ? "after" : "before";
      figure.append(image, caption);
      return figure;
    }));
    $("instruction").hidden = q.kind !== "check";
    $("instruction").textContent = q.kind === "check"
      ? `This one checks that questions are read: whatever the pictures show, choose “${q.correct}”, and any ratings.` : "";
    radios($("options"), "chosen", q.options);
    radios($("quality"), "quality", RATINGS);
    radios($("disentanglement"), "disentanglement", RATINGS);
    $("h-question").focus();
    scrollTo(0, 0);
    since = Date.now();
    return undefined;
  };

  // What a spreadsheet would run as a formula gets an apostrophe; quotes are doubled.
  const cell = (value) => `"${String(value).replace(/^([=+\-@\t\r])/, "'$1").replace(/"/g, '""')}"`;
  const finish = () => {
    const columns = ["participant", "question", "kind", "feature", "correct", "chosen", "quality", "disentanglement",
      "seconds"];
    const lines = [columns, ...answers.map((row) => columns.map((column) => row[column] ?? ""))];
    const text = lines.map((line) => line.map(cell).join(",")).join("\n") + "\n";
    $("download").href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    $("download").download = `answers-${participant}.csv`;
    $("question").hidden = true;
    $("end").hidden = false;
    $("h-end").focus();
  };

  $("question").addEventListener("submit", (event) => {
    event.preventDefault();
    const form = new FormData($("question")), q = order[at];
    answers.push({ participant, question: q.id, kind: q.kind, feature: q.feature, correct: q.correct,
      chosen: form.get("chosen"), quality: form.get("quality"), disentanglement: form.get("disentanglement"),
      seconds: ((Date.now() - since) / 1000).toFixed(1) });
    ask();
  });
  $("begin").addEventListener("click", () => {
    $("start").hidden = true;
    $("question").hidden = false;
    ask();
  });
})();
