// A grid that is painted: by pointer, by keyboard, with undo.

const MOST = 30; // cells a side

const blank = (height, width) => Array.from({ length: height }, () => Array(width).fill(0));
const copied = (grid) => grid.map((row) => [...row]);

/** An editor of one grid at a time. look() gives colours and digits; changed(grid) is told of every change; say(text). */
function makeEditor({ look, changed, say }) {
  let grid = null, source = null, name = "", colour = 1, tool = "paint", cursor = [0, 0], cell = 20, pen = null;
  let undone = [], done = [], painting = false, keys = false;

  const canvas = make("canvas", {
    class: "arc-paper", tabindex: 0, role: "application", "aria-roledescription": "grid editor",
    onpointerdown: begin, onpointermove: drag, onpointerup: end, onpointercancel: end, onkeydown: press,
    onfocus: () => { keys = canvas.matches(":focus-visible"); redraw(); }, onblur: () => { keys = false; redraw(); },
  });
  const swatches = COLOUR_NAMES.map((word, value) =>
    make("button", { type: "button", class: "arc-colour", title: `${word} (key ${value})`, "aria-label": `colour ${value}, ${word}`, onclick: () => choose(value) }, String(value)));
  const tools = { paint: toolButton("paint", "Paint", "P"), fill: toolButton("fill", "Fill", "F") };
  const rows = side("rows"), columns = side("columns");
  const element = make("div", { class: "arc-editor" },
    make("div", { class: "arc-row", role: "group", "aria-label": "colours" }, ...swatches),
    make("div", { class: "arc-row" }, tools.paint, tools.fill,
      action("Undo", "Ctrl+Z", undo), action("Redo", "Ctrl+Y", redo), action("Copy input", "C", copyInput), action("Clear", "", clear),
      make("label", {}, rows, " × "), make("label", {}, columns)),
    canvas);

  function toolButton(which, word, key) {
    return make("button", { type: "button", title: `${word} (key ${key})`, onclick: () => useTool(which) }, word);
  }
  function action(word, key, onclick) {
    return make("button", { type: "button", title: key ? `${word} (${key})` : word, onclick }, word);
  }
  function side(word) {
    return make("input", { type: "number", min: 1, max: MOST, "aria-label": word, title: `${word}, 1 to ${MOST}`, onchange: resize });
  }

  function open(next, its, title) { // its: the input that "Copy input" copies
    [grid, source, name, cursor, done, undone] = [copied(next), its, title, [0, 0], [], []];
    redraw();
  }
  function redraw() {
    if (!grid) return;
    cell = Math.max(12, Math.min(36, Math.floor(400 / Math.max(grid.length, grid[0].length))));
    pen = drawGrid(canvas, grid, cell, { ...look(), cursor: keys ? cursor : null });
    canvas.setAttribute("aria-label", `${inWords(name, grid)}. Arrow keys move, digits choose a colour, space paints.`);
    [rows.value, columns.value] = [grid.length, grid[0].length];
    swatches.forEach((swatch, value) => {
      swatch.style.background = look().colours[value];
      swatch.style.color = inkOn(look().colours[value]);
      swatch.setAttribute("aria-pressed", value === colour);
    });
    for (const [which, button] of Object.entries(tools)) button.setAttribute("aria-pressed", which === tool);
  }
  function choose(value) { colour = value; redraw(); say(`colour ${value}, ${COLOUR_NAMES[value]}`); }
  function useTool(which) { tool = which; redraw(); say(`${which} with colour ${colour}`); }

  function remember() { done.push(copied(grid)); undone = []; if (done.length > 500) done.shift(); }
  function undo() { travel(done, undone, "nothing to undo"); }
  function redo() { travel(undone, done, "nothing to redo"); }
  function travel(from, to, none) {
    if (!from.length) return say(none);
    to.push(copied(grid));
    replace(from.pop());
  }
  function replace(next) {
    grid = next;
    cursor = [Math.min(cursor[0], grid.length - 1), Math.min(cursor[1], grid[0].length - 1)];
    redraw();
    changed(copied(grid));
  }
  function copyInput() { if (source) { remember(); replace(copied(source)); } else say("there is no input to copy"); }
  function clear() { remember(); replace(blank(grid.length, grid[0].length)); }
  function resize() {
    const [height, width] = [Number(rows.value), Number(columns.value)];
    const fits = (n) => Number.isInteger(n) && n >= 1 && n <= MOST;
    if (!fits(height) || !fits(width)) {
      say(`${rows.value} × ${columns.value}: a side has 1 to ${MOST} cells`);
      return redraw();
    }
    remember();
    const next = blank(height, width);
    next.forEach((row, r) => row.forEach((_, c) => { if (grid[r] && c < grid[0].length) row[c] = grid[r][c]; }));
    replace(next);
  }

  function set([row, column]) {
    if (grid[row][column] === colour) return;
    grid[row][column] = colour;
    drawCell(pen, grid, row, column, 0, 0, cell, { ...look(), cursor: keys ? cursor : null });
  }
  function flood([row, column]) {
    const old = grid[row][column], waiting = [[row, column]];
    if (old === colour) return;
    while (waiting.length) {
      const [r, c] = waiting.pop();
      if (!grid[r] || grid[r][c] !== old) continue;
      grid[r][c] = colour;
      waiting.push([r + 1, c], [r - 1, c], [r, c + 1], [r, c - 1]);
    }
    redraw();
  }
  function begin(event) {
    const at = cellAt(event, canvas, grid);
    if (!at) return;
    keys = false;
    remember();
    painting = tool === "paint";
    last = at;
    if (painting) { canvas.setPointerCapture(event.pointerId); set(at); } else { flood(at); changed(copied(grid)); }
  }
  let last = null;
  function drag(event) {
    if (!painting) return;
    const at = cellAt(event, canvas, grid);
    if (!at) return;
    const far = Math.max(Math.abs(at[0] - last[0]), Math.abs(at[1] - last[1])); // a quick hand leaves no gap
    for (let i = 0; i <= far; i++)
      set([0, 1].map((axis) => Math.round(last[axis] + ((at[axis] - last[axis]) * i) / (far || 1))));
    last = at;
  }
  function end() {
    if (!painting) return;
    painting = false;
    changed(copied(grid));
    redraw();
  }
  function press(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const key = event.key.toLowerCase();
    keys = true;
    if (step) {
      cursor = [Math.max(0, Math.min(grid.length - 1, cursor[0] + step[0])), Math.max(0, Math.min(grid[0].length - 1, cursor[1] + step[1]))];
      redraw();
      say(`row ${cursor[0]}, column ${cursor[1]}: ${grid[cursor[0]][cursor[1]]}`);
    } else if ((event.ctrlKey || event.metaKey) && (key === "z" || key === "y")) {
      if (key === "y" || event.shiftKey) redo(); else undo();
    } else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (/^[0-9]$/.test(key)) choose(Number(key));
    else if (key === " " || key === "enter") {
      remember();
      if (tool === "paint") set(cursor); else flood(cursor);
      changed(copied(grid));
      redraw();
      say(`row ${cursor[0]}, column ${cursor[1]} painted ${colour}`);
    } else if (key === "f") useTool("fill");
    else if (key === "p") useTool("paint");
    else if (key === "c") copyInput();
    else return;
    event.preventDefault();
  }
  return { element, canvas, open, redraw, value: () => copied(grid) };
}
