// The playground: thumbnails of a set, a task at full size, an editor, answers side by side.

const parse = (rows) => (rows ? rows.map((row) => [...row].map(Number)) : null);
const unparse = (grid) => (grid ? grid.map((row) => row.join("")) : null);
const opened = (task) => ({
  id: task.id,
  train: task.train.map(([input, output]) => ({ input: parse(input), output: parse(output) })),
  test: task.test.map(([input, output]) => ({ input: parse(input), output: parse(output) })),
});

function render({ model, el }) {
  let tasks = [], matches = [], at = 0, test = 0, task = null, own = null, target = null, compared = [];
  let palette = "suite", digits = false;
  const drafts = new Map(), calls = new Map(), setName = () => model.get("shown");
  let count = 0;

  // --- the kernel: every question gets an answer by its number
  function ask(what, values) {
    const n = ++count;
    say("asking the kernel …");
    model.send({ n, what, ...values });
    return new Promise((answered) => calls.set(n, answered));
  }
  const hear = (message) => {
    const answered = calls.get(message.n);
    calls.delete(message.n);
    if (!answered) return;
    say(message.said || "");
    if (!message.failed) answered(message);
  };

  // --- what is on the page
  const say = (text) => { spoken.textContent = text; };
  const spoken = make("p", { class: "arc-say", role: "status", "aria-live": "polite" });
  const look = () => ({ colours: PALETTES[palette], digits });
  const editor = makeEditor({ look, say, changed: edited });
  const sets = make("select", { "aria-label": "set of tasks", onchange: () => ask("set", { name: sets.value }) });
  const box = make("input", { type: "search", placeholder: "id", "aria-label": "search by id", size: 12, oninput: filter, onkeydown: enter });
  const limits = {};
  for (const [name, word, most] of [["side", "largest side", 30], ["colors", "colours", 10], ["pairs", "demos", 10]]) {
    const field = (word, value) => make("input", { type: "number", min: 1, max: most, value, "aria-label": word, onchange: filter });
    limits[name] = { word, most, low: field(`${word} from`, 1), high: field(`${word} to`, most) };
  }
  const found = make("span", { class: "arc-found" });
  const digitBox = make("input", { type: "checkbox", onchange: () => { digits = digitBox.checked; drawAll(); } });
  const colours = make("select", { "aria-label": "colours", onchange: () => { palette = colours.value; thumbnails(); drawAll(); } },
    make("option", { value: "suite" }, "usual colours"), make("option", { value: "arcprize" }, "arcprize.org's"));
  const thumbs = make("div", { class: "arc-thumbs", role: "listbox", "aria-label": "tasks", onkeydown: walk });
  const pairs = make("div", { class: "arc-task" });
  const sideBySide = make("div", { class: "arc-compare" });
  const tests = make("span", { class: "arc-row" });
  const nameBox = make("input", { type: "text", size: 16, "aria-label": "name of your task" });
  const file = make("input", { type: "file", accept: ".json,application/json", hidden: true, onchange: () => { take(file.files[0]); file.value = ""; } });
  const button = (word, title, onclick) => make("button", { type: "button", title, onclick }, word);
  const solving = make("span", { class: "arc-row" },
    button("Check", "Whether your answer is right; the answer itself stays hidden", check),
    button("Show answers", "Yours, the models' and the right one, side by side", compare),
    button("Change a copy", "Make a task of your own out of this one", () => startOwn(own || task)));
  const making = make("span", { class: "arc-row", hidden: true }, make("label", {}, "name ", nameBox),
    button("+ demo", "One more demonstration", () => grow("train")), button("+ test", "One more test input", () => grow("test")),
    button("Remove", "Remove the pair that is being edited", shrink), button("Save", "Write it as a file that every notebook reads", save),
    button("Back", "Back to the tasks", () => { own = null; choose(at); }));
  const work = make("div", { class: "arc-work" },
    make("div", {}, make("div", { class: "arc-row" }, tests, solving, making), editor.element),
    sideBySide);
  const root = make("div", { class: "arc-play", "data-lm-suppress-shortcuts": "true", onkeydown: (event) => event.stopPropagation(),
    ondragover: (event) => event.preventDefault(), ondrop: (event) => { event.preventDefault(); take(event.dataTransfer.files[0]); } },
  make("div", { class: "arc-row" }, sets, box,
    ...Object.values(limits).map((one) => make("label", {}, `${one.word} `, one.low, "–", one.high)), found,
    make("label", {}, digitBox, " digits"), colours),
  thumbs, pairs, spoken, work,
  make("div", { class: "arc-row arc-files" },
    button("New task", "Draw a task of your own", () => startOwn(null)), button("Open file …", "A task file, also dropped here", () => file.click()), file,
    "save as", button("SVG", "The task as a drawing", () => download(new Blob([toSvg(now(), look())], { type: "image/svg+xml" }), `${now().id}.svg`)),
    button("PNG", "The task as a picture", async () => download(await toPng(now(), look()), `${now().id}.png`)),
    button("JSON", "The task as ARC's JSON", () => download(new Blob([asJson(now())], { type: "application/json" }), `${now().id}.json`))));
  el.append(root);

  const now = () => own || task;
  const asJson = ({ train, test }) => JSON.stringify({ train, test: test.map(({ input, output }) => (output ? { input, output } : { input })) });

  // --- a set
  function load() {
    tasks = model.get("tasks");
    own = null;
    sets.replaceChildren(...model.get("sets").map((name) => make("option", { value: name, selected: name === setName() }, name)));
    sets.hidden = model.get("sets").length < 2;
    filter();
    choose(matches[0] ?? -1);
  }
  function filter() {
    const word = box.value.trim().toLowerCase();
    const inside = (one) => Object.entries(limits).every(([name, { low, high }]) => one[name] >= Number(low.value) && one[name] <= Number(high.value));
    matches = tasks.flatMap((one, i) => (one.id.toLowerCase().includes(word) && inside(one) ? [i] : []));
    found.textContent = `${matches.length} of ${tasks.length}`;
    say(matches.length ? "" : word && !tasks.some((one) => one.id.toLowerCase().includes(word)) ? `${box.value}: no task of this set has such an id` : "no task matches: widen a range");
    thumbnails();
  }
  function enter(event) { if (event.key === "Enter" && matches.length) choose(matches[0]); }
  let drawing = 0;
  function thumbnails() {
    const mine = ++drawing, waiting = [...matches];
    thumbs.replaceChildren();
    const some = () => { // a page's worth a frame, so that thousands do not hold the hand
      if (mine !== drawing) return;
      thumbs.append(...waiting.splice(0, 400).map(thumbnail));
      if (waiting.length) requestAnimationFrame(some);
    };
    some();
  }
  function thumbnail(i) {
    const canvas = make("canvas", { width: 84, height: 42, "aria-hidden": true }), pen = canvas.getContext("2d");
    pen.imageSmoothingEnabled = false;
    tasks[i].train[0].forEach((rows, place) => {
      const cell = 40 / Math.max(rows.length, rows[0].length);
      rows.forEach((row, r) => { for (let c = 0; c < row.length; c++) { pen.fillStyle = PALETTES[palette][row[c]]; pen.fillRect(1 + 42 * place + c * cell, 1 + r * cell, cell, cell); } });
    });
    return make("button", { type: "button", role: "option", class: "arc-thumb", "data-task": i, title: tasks[i].id, "aria-label": `task ${tasks[i].id}`,
      "aria-selected": i === at && !own, tabindex: i === at ? 0 : -1, onclick: () => { own = null; choose(i); } }, canvas, tasks[i].id.slice(0, 12));
  }
  function walk(event) {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by || !matches.length) return;
    event.preventDefault();
    const next = matches[Math.max(0, Math.min(matches.length - 1, matches.indexOf(at) + by))];
    choose(next);
    thumbs.querySelector(`[data-task="${next}"]`)?.focus();
  }

  // --- a task
  function choose(i) {
    at = i;
    task = i >= 0 && tasks[i] ? opened(tasks[i]) : null;
    compared = [];
    for (const thumb of thumbs.querySelectorAll(".arc-thumb")) {
      const chosen = Number(thumb.dataset.task) === i && !own;
      thumb.setAttribute("aria-selected", chosen);
      thumb.tabIndex = chosen ? 0 : -1;
      if (chosen) thumb.scrollIntoView({ block: "nearest" });
    }
    work.hidden = !now();
    if (now()) answer(0);
    else drawAll();
  }
  function answer(i) { // edit the answer to a test input
    test = i;
    const { input } = now().test[i];
    target = { part: "answer", pair: i };
    editor.open(drafts.get(key()) || blank(input.length, input[0].length), input, `your answer to test ${i}`);
    if (own) edit("test", i, "input"); else drawAll();
  }
  const key = () => `${setName()}/${task.id}/${test}`;
  function edited(grid) {
    if (target.part === "answer") drafts.set(key(), grid);
    else { own[target.part][target.pair][target.side] = grid; }
    if (compared.length) compared = [{ name: "you", grid }, ...compared.filter((one) => one.name !== "you")];
    drawAll(false);
  }
  function drawAll(paper = true) {
    if (!now()) return pairs.replaceChildren();
    solving.hidden = Boolean(own);
    making.hidden = !own;
    const parts = [...now().train.map((_, i) => ["train", i]), ...now().test.map((_, i) => ["test", i])];
    const room = parts.length > 5 ? 0.8 : 1;
    pairs.replaceChildren(make("b", { class: "arc-name" }, own ? `your task ${own.id}` : task.id), ...parts.map(([part, i]) => {
      const pair = now()[part][i];
      return make("figure", {}, make("figcaption", {}, `${part} ${i}`), drawn(part, i, "input", pair.input, room), make("span", { "aria-hidden": true }, "↓"), drawn(part, i, "output", pair.output, room));
    }));
    tests.replaceChildren(...(own || task.test.length < 2 ? [] : task.test.map((_, i) => make("button", { type: "button", "aria-pressed": i === test, onclick: () => { compared = []; answer(i); } }, `test ${i}`))));
    if (paper) editor.redraw();
    drawCompared();
  }
  function drawn(part, i, side, grid, room) {
    const name = `${part} ${i} ${side}`;
    const open = own ? { role: "button", tabindex: 0, onclick: () => edit(part, i, side), onkeydown: (event) => { if (event.key === "Enter") edit(part, i, side); } } : { role: "img" };
    if (!grid) return make("span", { class: "arc-unknown", ...open, "aria-label": inWords(name, null), title: own ? "draw it" : "the answer, which is yours to find" }, "?");
    const chosen = own && target.part === part && target.pair === i && target.side === side;
    const canvas = make("canvas", { ...open, "aria-label": inWords(name, grid), title: `${sizeOf(grid)}`, class: chosen ? "arc-chosen" : "" });
    drawGrid(canvas, grid, cellFor(grid, room), look());
    return canvas;
  }

  // --- answers, asked for
  async function check() {
    const reply = await ask("check", { task: at, test, grid: unparse(editor.value()) });
    say(reply.verdict);
  }
  async function compare() {
    const reply = await ask("answers", { task: at, test });
    compared = [{ name: "you", grid: editor.value() }, ...reply.answers.map(([name, rows]) => ({ name, grid: parse(rows) }))];
    drawCompared();
  }
  function drawCompared(over = null) {
    const truth = compared.find((one) => one.name === "truth")?.grid;
    if (over && sideBySide.children.length === compared.length) { // only the cell under the pointer has changed
      compared.forEach((one, i) => paintCompared(sideBySide.children[i].querySelector("canvas"), one, truth, over));
      return;
    }
    sideBySide.replaceChildren(...compared.map((one) => {
      const canvas = make("canvas", { role: "img", "aria-label": inWords(one.name, one.grid),
        onpointermove: (event) => hover(cellAt(event, canvas, one.grid)), onpointerleave: () => hover([-1, -1]) });
      paintCompared(canvas, one, truth, null);
      const told = one.name === "truth" ? "" : verdict(one.grid, truth);
      return make("figure", {}, make("figcaption", { class: told.startsWith("✓") ? "arc-good" : told ? "arc-bad" : "" }, `${one.name} · ${sizeOf(one.grid)}`, make("br"), told), canvas);
    }));
  }
  function paintCompared(canvas, one, truth, over) {
    drawGrid(canvas, one.grid, cellFor(one.grid), { ...look(), wrong: isWrong(one.grid, truth), cursor: over });
  }
  function hover(over) {
    if (!over) return;
    drawCompared(over);
    if (over[0] >= 0) say(`row ${over[0]}, column ${over[1]}: ${compared.map(({ name, grid }) => `${name} ${grid[over[0]]?.[over[1]] ?? "–"}`).join(", ")}`);
  }

  // --- a task of one's own
  function startOwn(from) {
    work.hidden = false;
    const empty = () => ({ input: blank(3, 3), output: blank(3, 3) });
    own = from ? { id: `${from.id}-mine`, train: from.train.map((pair) => ({ input: copied(pair.input), output: copied(pair.output) })), test: from.test.map((pair) => ({ input: copied(pair.input), output: null })) }
      : { id: "mine", train: [empty(), empty()], test: [{ input: blank(3, 3), output: null }] };
    nameBox.value = own.id;
    compared = [];
    edit("train", 0, "input");
    say("click a grid to draw in it; an answer (?) may stay unknown");
  }
  function edit(part, pair, side) {
    target = { part, pair, side };
    const both = own[part][pair];
    if (!both[side]) both[side] = blank(both.input.length, both.input[0].length);
    editor.open(both[side], side === "output" ? both.input : null, `${part} ${pair} ${side}`);
    drawAll();
  }
  function grow(part) {
    if (own[part].length === 10) return say("10 is enough");
    own[part].push({ input: blank(3, 3), output: part === "train" ? blank(3, 3) : null });
    edit(part, own[part].length - 1, "input");
  }
  function shrink() {
    if (own[target.part].length === 1) return say(`a task needs a ${target.part === "train" ? "demonstration" : "test input"}`);
    own[target.part].splice(target.pair, 1);
    edit(target.part, 0, "input");
  }
  async function save() {
    own.id = nameBox.value.trim();
    const rows = ({ input, output }) => [unparse(input), unparse(output)];
    await ask("save", { task: { id: own.id, train: own.train.map(rows), test: own.test.map(rows) } });
  }
  async function take(given) {
    if (!given) return;
    if (given.size > 2e7) return say(`${given.name}: larger than 20 MB`);
    await ask("open", { name: given.name, text: await given.text() });
  }

  model.on("msg:custom", hear);
  model.on("change:tasks", load);
  load();
  return () => { model.off("msg:custom", hear); model.off("change:tasks", load); };
}
export default { render };
