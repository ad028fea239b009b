// What every widget draws with: grids on a canvas or as SVG. PALETTES stands above this file, written by Python.

const LINE = "#555555", INK = "#222222", GOOD = "#1a7f37", BAD = "#cf222e";
const COLOUR_NAMES = ["black", "blue", "red", "green", "yellow", "grey", "magenta", "orange", "light blue", "maroon"];

/** An element with attributes ("on…" are listeners) and children. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Black or white, whichever is easier to read on a colour. */
function inkOn(colour) {
  const [r, g, b] = [1, 3, 5].map((i) => (parseInt(colour.slice(i, i + 2), 16) / 255) ** 2.2);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.18 ? "#000000" : "#ffffff";
}

const sizeOf = (grid) => `${grid.length}×${grid[0].length}`;

/** Pixels a cell: a large grid gets more room than a small one, not in proportion. */
const cellFor = (grid, room = 1) => {
  const side = Math.max(grid.length, grid[0].length);
  return Math.max(6, Math.floor(Math.min(32, (room * (90 + 6.5 * side)) / side)));
};

/** Draw one cell of a grid whose corner is at x, y. */
function drawCell(pen, grid, row, column, x, y, cell, look) {
  const value = grid[row][column], colour = look.colours[value];
  const left = x + column * cell, top = y + row * cell;
  pen.fillStyle = LINE;
  pen.fillRect(left, top, cell + 1, cell + 1);
  pen.fillStyle = colour;
  pen.fillRect(left + 1, top + 1, cell - 1, cell - 1);
  if (look.sure) { // probability of the cell: the less likely, the more of it is covered
    const open = Math.sqrt(Math.max(0, Math.min(1, look.sure[row][column]))) * (cell - 1);
    pen.fillStyle = "#ffffff";
    pen.fillRect(left + 1, top + 1, cell - 1, cell - 1);
    pen.fillStyle = colour;
    pen.fillRect(left + 1 + (cell - 1 - open) / 2, top + 1 + (cell - 1 - open) / 2, open, open);
  }
  if (look.digits && cell >= 9) {
    pen.fillStyle = look.sure ? INK : inkOn(colour);
    if (look.sure) { pen.lineWidth = 2; pen.strokeStyle = "#ffffff"; }
    pen.font = `${Math.floor(cell * 0.6)}px sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    if (look.sure) pen.strokeText(value, left + cell / 2 + 0.5, top + cell / 2 + 1);
    pen.fillText(value, left + cell / 2 + 0.5, top + cell / 2 + 1);
  }
  if (look.wrong && look.wrong[row] && look.wrong[row][column]) outline(pen, left, top, cell, "#ffffff");
  if (look.cursor && look.cursor[0] === row && look.cursor[1] === column) outline(pen, left, top, cell, "#ffdc00");
}

/** A light line in a black one: one of the two stands out on every colour. */
function outline(pen, left, top, cell, light) {
  for (const [colour, width, inset] of [["#000000", 3, 2.5], [light, 1.2, 2.5]]) {
    pen.strokeStyle = colour;
    pen.lineWidth = width;
    pen.strokeRect(left + inset, top + inset, cell + 1 - 2 * inset, cell + 1 - 2 * inset);
  }
}

function drawAt(pen, grid, x, y, cell, look) {
  for (let row = 0; row < grid.length; row++)
    for (let column = 0; column < grid[0].length; column++) drawCell(pen, grid, row, column, x, y, cell, look);
}

/** A whole grid on a canvas, which becomes as large as it. */
function drawGrid(canvas, grid, cell, look) {
  const [width, height] = [grid[0].length * cell + 1, grid.length * cell + 1];
  const dots = window.devicePixelRatio || 1;
  canvas.width = width * dots;
  canvas.height = height * dots;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  drawAt(pen, grid, 0, 0, cell, look);
  return pen;
}

/** What a screen reader says of a grid. */
const inWords = (name, grid) =>
  grid ? `${name}, ${grid.length} by ${grid[0].length}: ${grid.map((row) => [...row].join(" ")).join("; ")}` : `${name}, not known`;

/** The cell of a canvas under a pointer, or null. */
function cellAt(event, canvas, grid) {
  const box = canvas.getBoundingClientRect();
  const row = Math.floor(((event.clientY - box.top) / box.height) * grid.length);
  const column = Math.floor(((event.clientX - box.left) / box.width) * grid[0].length);
  return grid[row] && column >= 0 && column < grid[0].length ? [row, column] : null;
}

const isWrong = (grid, truth) =>
  truth && sizeOf(grid) === sizeOf(truth) ? grid.map((row, r) => [...row].map((value, c) => +value !== +truth[r][c])) : null;

/** "✓ solved", or what is wrong; "" where the truth is not known. */
function verdict(grid, truth) {
  if (!truth || !grid) return "";
  const wrong = isWrong(grid, truth);
  if (!wrong) return `✗ wrong size ${sizeOf(grid)}`;
  const count = wrong.flat().filter(Boolean).length;
  return count ? `✗ ${count} ${count === 1 ? "cell" : "cells"} wrong` : "✓ solved";
}

/** Where the grids of a task stand on a sheet: a column a pair, input over output. */
function sheet(task) {
  const parts = [...task.train.map((pair, i) => [`train ${i}`, pair]), ...task.test.map((pair, i) => [`test ${i}`, pair])];
  const panels = [];
  const cells = parts.flatMap(([, pair]) => [pair.input, pair.output].filter(Boolean)).map((grid) => cellFor(grid));
  const cell = Math.min(...cells);
  const deep = Math.max(...parts.map(([, pair]) => pair.input.length)) * cell;
  let x = 12, height = 0;
  for (const [name, pair] of parts) {
    const grids = [pair.input, pair.output].filter(Boolean);
    grids.forEach((grid, i) => panels.push({ grid, cell, x, y: i ? deep + 64 : 28, name: `${i ? "→" : name} ${sizeOf(grid)}` }));
    const wide = Math.max(...grids.map((grid) => grid[0].length * cell), 72);
    height = Math.max(height, deep + 64 + (pair.output ? pair.output.length * cell : 0));
    x += wide + 24;
  }
  return { panels, width: x, height: height + 16 };
}

function toSvg(task, look) {
  const { panels, width, height } = sheet(task);
  const parts = [`<rect width="${width}" height="${height}" fill="#ffffff"/>`];
  for (const { grid, cell, x, y, name } of panels) {
    parts.push(`<text x="${x}" y="${y - 8}" font-family="sans-serif" font-size="12" fill="${INK}">${name}</text>`);
    grid.forEach((row, r) => [...row].forEach((value, c) => {
      const [left, top] = [x + c * cell, y + r * cell];
      parts.push(`<rect x="${left}" y="${top}" width="${cell}" height="${cell}" fill="${look.colours[value]}" stroke="${LINE}"/>`);
      if (look.digits) parts.push(`<text x="${left + cell / 2}" y="${top + cell * 0.72}" text-anchor="middle" font-family="sans-serif" font-size="${cell * 0.6}" fill="${inkOn(look.colours[value])}">${value}</text>`);
    }));
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">${parts.join("")}</svg>\n`;
}

function toPng(task, look) {
  const { panels, width, height } = sheet(task);
  const canvas = make("canvas", { width: 2 * width, height: 2 * height });
  const pen = canvas.getContext("2d");
  pen.scale(2, 2);
  pen.fillStyle = "#ffffff";
  pen.fillRect(0, 0, width, height);
  for (const { grid, cell, x, y, name } of panels) {
    pen.fillStyle = INK;
    pen.font = "12px sans-serif";
    pen.textAlign = "left";
    pen.textBaseline = "alphabetic";
    pen.fillText(name, x, y - 8);
    drawAt(pen, grid, x, y, cell, look);
  }
  return new Promise((done) => canvas.toBlob(done, "image/png"));
}

function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
