// A task while it is learned: a slider over the steps, the answer of each, the loss beside it.

function render({ model, el }) {
  const { task, shots, truth, losses, unit } = model.get("story");
  let at = 0, palette = "suite", digits = false, covered = true, timer = null;
  const look = (more = {}) => ({ colours: PALETTES[palette], digits, ...more });
  const answer = make("canvas", { role: "img" }), caption = make("figcaption");
  const told = make("p", { class: "arc-say", role: "status", "aria-live": "polite" });
  const slider = make("input", { type: "range", min: 0, max: shots.length - 1, value: 0, "aria-label": unit, oninput: () => show(Number(slider.value)) });
  const play = make("button", { type: "button", title: "Play", onclick: toggle }, "▶ play");
  const box = (word, checked, changed) => {
    const input = make("input", { type: "checkbox", checked, onchange: () => { changed(input.checked); drawAll(); } });
    return make("label", {}, input, ` ${word}`);
  };
  const colours = make("select", { "aria-label": "colours", onchange: () => { palette = colours.value; drawAll(); } },
    make("option", { value: "suite" }, "usual colours"), make("option", { value: "arcprize" }, "arcprize.org's"));
  const still = [];
  const figure = (name, grid) => {
    const canvas = make("canvas", { role: "img", "aria-label": inWords(name, grid) });
    still.push([canvas, grid]);
    return canvas;
  };
  const demos = make("div", { class: "arc-task" }, make("b", { class: "arc-name" }, task.id), ...task.train.map((pair, i) =>
    make("figure", {}, make("figcaption", {}, `train ${i}`), figure(`train ${i} input`, pair[0]), make("span", { "aria-hidden": "true" }, "↓"), figure(`train ${i} output`, pair[1]))));
  const curve = chart(losses, unit, Math.max(...shots.map((shot) => shot.step)));
  const root = make("div", { class: "arc-play arc-watch", "data-lm-suppress-shortcuts": "true" }, demos,
    make("div", { class: "arc-work" },
      make("figure", {}, make("figcaption", {}, "test input"), figure("test input", task.test[0][0])),
      make("figure", {}, caption, answer), curve.element),
    make("div", { class: "arc-row" }, play, slider, box("how sure", true, (on) => { covered = on; }), box("digits", false, (on) => { digits = on; }), colours), told);
  el.append(root);

  function show(i) {
    at = i;
    slider.value = i;
    const shot = shots[i], wrong = isWrong(shot.grid, truth), said = verdict(shot.grid, truth);
    drawGrid(answer, shot.grid, cellFor(shot.grid, 1.4), look({ sure: covered ? shot.sure : null, wrong }));
    answer.setAttribute("aria-label", inWords(`answer at ${unit} ${shot.step}`, shot.grid));
    caption.replaceChildren(`${unit} ${shot.step} · ${sizeOf(shot.grid)}`, make("br"), said || " ");
    caption.className = said.startsWith("✓") ? "arc-good" : said ? "arc-bad" : "";
    const mean = shot.sure.flat().reduce((sum, p) => sum + p, 0) / shot.sure.flat().length;
    const votes = shot.views ? `, given by ${shot.votes} of ${shot.views} views` : "";
    told.textContent = `${unit} ${shot.step}: ${said || "an answer"}${votes}, ${Math.round(100 * mean)} % sure of a cell on average` +
      (shot.loss == null ? "" : `, loss ${shot.loss.toFixed(3)} nats a token`);
    curve.mark(shot.step);
  }
  function drawAll() {
    for (const [canvas, grid] of still) drawGrid(canvas, grid, cellFor(grid), look());
    show(at);
  }
  function toggle() {
    if (timer) { clearInterval(timer); timer = null; play.textContent = "▶ play"; return; }
    play.textContent = "■ stop";
    if (at === shots.length - 1) show(0);
    timer = setInterval(() => { if (at < shots.length - 1) show(at + 1); else toggle(); }, 700);
  }
  drawAll();
  return () => { if (timer) clearInterval(timer); };
}

/** Losses as a line; mark(step) moves a line across it. */
function chart(losses, unit, last) {
  const [width, height, left, bottom] = [360, 170, 44, 30];
  const svg = (tag, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const finite = losses.filter((loss) => loss != null), top = Math.max(...finite, 1e-9);
  const x = (step) => left + (step / Math.max(1, last)) * (width - left - 10);
  const y = (loss) => 10 + (1 - loss / top) * (height - bottom - 10);
  const points = losses.map((loss, i) => (loss == null ? "" : `${x(i + 1)},${y(loss)}`)).join(" ");
  const line = svg("line", { x1: x(0), x2: x(0), y1: 10, y2: height - bottom, stroke: "#0b5cad", "stroke-width": 2 });
  const label = (text, at) => svg("text", { "font-size": 11, fill: INK, "font-family": "sans-serif", ...at }, text);
  const element = svg("svg", { width, height, role: "img", "aria-label": finite.length ? `loss from ${finite[0].toFixed(2)} to ${finite.at(-1).toFixed(2)} nats a token` : "no losses" },
    svg("path", { d: `M${left},10V${height - bottom}H${width - 10}`, fill: "none", stroke: "#888" }),
    svg("polyline", { points, fill: "none", stroke: INK, "stroke-width": 1.2 }), line,
    label(top.toFixed(2), { x: left - 4, y: 16, "text-anchor": "end" }), label("0", { x: left - 4, y: height - bottom, "text-anchor": "end" }),
    label(`${unit} (0 to ${last})`, { x: (left + width) / 2, y: height - 8, "text-anchor": "middle" }),
    label("loss, nats a token", { x: 12, y: height / 2, transform: `rotate(-90 12 ${height / 2})`, "text-anchor": "middle" }));
  if (!finite.length) element.style.display = "none";
  return { element, mark: (step) => { line.setAttribute("x1", x(step)); line.setAttribute("x2", x(step)); } };
}
export default { render };
