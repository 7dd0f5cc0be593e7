// A chart from a list of marks, as SVG: text stays text, ink follows the theme, marks with a key can be picked.
const NS = "http://www.w3.org/2000/svg";
const DRAWN = "#1a1a1a"; // the ink of figures, which charts write in the ink of the theme
const INK = `var(--jp-ui-font-color1,${DRAWN})`, PAPER = "var(--jp-layout-color0,white)", MUTED = "var(--jp-ui-font-color2,#6b6b6b)", GRID = "var(--jp-border-color2,#e6e6e6)";

function make(name, attributes, parent, text) {
  const node = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined && value !== null) node.setAttribute(key, value);
  if (text !== undefined) node.textContent = text;
  if (parent) parent.append(node);
  return node;
}

function shape(kind, x, y, r, attributes, parent) {
  if (kind === "s") return make("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...attributes }, parent);
  const corners = { "^": [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]], D: [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]], v: [[0, 1.2], [1.15, -0.9], [-1.15, -0.9]] }[kind];
  if (corners) return make("polygon", { points: corners.map(([a, b]) => `${x + a * r},${y + b * r}`).join(" "), ...attributes }, parent);
  return make("circle", { cx: x, cy: y, r, ...attributes }, parent);
}

// Dark colours are lightened by --wb-lift, 0 % on white paper (style.py).
const seen = (colour) => !colour || colour === DRAWN ? INK : `color-mix(in srgb, ${colour}, white var(--wb-lift, 0%))`;

const pen = document.createElement("canvas").getContext("2d");
function rows(legend, room) {
  // Legend entries with their x and row: one after the other, in as many rows as the width asks for.
  let x = 0, row = 0;
  return legend.map((entry) => {
    const wide = 26 + pen.measureText(entry.label).width;
    if (x && x + wide > room) x = 0, row += 1;
    x += wide;
    return { ...entry, x: x - wide, row };
  });
}

function render({ model, el }) {
  const box = document.createElement("div");
  box.className = "wb-chart";
  box.style.width = "100%";
  el.replaceChildren(box);

  const draw = () => {
    const spec = model.get("spec");
    box.replaceChildren();
    if (!spec.marks) return;
    const width = Math.max(240, box.clientWidth || spec.width || 480), height = spec.height || 220;
    const left = spec.y.ticks.length || spec.y.label ? 52 : 8, right = 8;
    pen.font = `11px ${getComputedStyle(box).fontFamily}`;
    const legend = rows(spec.legend || [], width - left - right);
    const top = 8 + 16 * (legend.length ? legend.at(-1).row + 1 : 0);
    const lines = Math.max(0, ...spec.x.ticks.map(([, label]) => String(label).split("\n").length));
    const bottom = 8 + 12 * lines + (spec.x.label ? 18 : 0);
    const svg = make("svg", { viewBox: `0 0 ${width} ${height}`, width: "100%", height, role: "img", "aria-label": spec.alt, "font-size": 11 }, box);
    const place = (axis, from, to) => (value) => from + (value - axis.min) / (axis.max - axis.min || 1) * (to - from);
    const X = place(spec.x, left, width - right), Y = place(spec.y, height - bottom, top);
    const clip = `clip-${Math.random().toString(36).slice(2)}`;
    make("rect", { x: left, y: top - 4, width: width - left - right, height: height - bottom - top + 8 }, make("clipPath", { id: clip }, make("defs", {}, svg)));
    for (const [value, label] of spec.y.ticks) {
      make("line", { x1: left, x2: width - right, y1: Y(value), y2: Y(value), stroke: GRID }, svg);
      make("text", { x: left - 6, y: Y(value) + 4, "text-anchor": "end", fill: INK }, svg, label);
    }
    for (const [value, label] of spec.x.ticks)
      String(label).split("\n").forEach((line, number) =>
        make("text", { x: X(value), y: height - bottom + 14 + 12 * number, "text-anchor": "middle", fill: number ? MUTED : INK }, svg, line));
    if (spec.x.label) make("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle", fill: MUTED }, svg, spec.x.label);
    if (spec.y.label) make("text", { x: 12, y: (top + height - bottom) / 2, "text-anchor": "middle", fill: MUTED, transform: `rotate(-90 12 ${(top + height - bottom) / 2})` }, svg, spec.y.label);
    if (lines) make("line", { x1: left, x2: width - right, y1: height - bottom, y2: height - bottom, stroke: INK }, svg);

    const marks = make("g", { "clip-path": `url(#${clip})` }, svg);
    for (const mark of spec.marks) {
      const colour = seen(mark.colour);
      const fill = mark.hollow ? "none" : colour;
      let node = null;
      if (mark.kind === "bar") {
        const w = Math.abs(X(mark.x + mark.w / 2) - X(mark.x - mark.w / 2)), zero = Y(mark.from || 0), y = Y(mark.y);
        node = make("rect", { x: X(mark.x) - w / 2, y: Math.min(y, zero), width: w, height: Math.max(1, Math.abs(zero - y)), fill, "fill-opacity": mark.opacity ?? 1, stroke: colour }, marks);
      } else if (mark.kind === "dot") {
        node = shape(mark.marker, X(mark.x), Y(mark.y), mark.r || 4, { fill, "fill-opacity": mark.opacity ?? 0.8, stroke: colour }, marks);
      } else if (mark.kind === "interval") {
        node = make("line", { x1: X(mark.x), x2: X(mark.x), y1: Y(mark.low), y2: Y(mark.high), stroke: colour, "stroke-width": 1.5 }, marks);
      } else if (mark.kind === "line") {
        node = make("polyline", { points: mark.points.map(([x, y]) => `${X(x)},${Y(y)}`).join(" "), fill: "none", stroke: colour, "stroke-width": mark.width || 1.6, "stroke-dasharray": mark.dash ? "5 3" : null }, marks);
      } else if (mark.kind === "area") {
        node = make("polygon", { points: mark.points.map(([x, y]) => `${X(x)},${Y(y)}`).join(" "), fill: colour, "fill-opacity": mark.opacity ?? 0.2 }, marks);
      } else if (mark.kind === "level") {
        node = make("line", { x1: left, x2: width - right, y1: Y(mark.y), y2: Y(mark.y), stroke: colour, "stroke-dasharray": mark.dash ? "4 3" : null }, marks);
      } else if (mark.kind === "tick") {
        const w = Math.abs(X(mark.x + mark.w / 2) - X(mark.x - mark.w / 2)) / 2;
        node = make("line", { x1: X(mark.x) - w, x2: X(mark.x) + w, y1: Y(mark.y), y2: Y(mark.y), stroke: INK, "stroke-width": 2 }, marks);
      } else if (mark.kind === "text") {
        node = make("text", { x: X(mark.x), y: Y(mark.y) + (mark.dy ?? -4), "text-anchor": "middle", fill: INK, stroke: PAPER, "stroke-width": 3, "paint-order": "stroke" }, svg, mark.text);
      }
      if (!node) continue;
      if (mark.title) make("title", {}, node, mark.title);
      if (mark.key === undefined || mark.key === null) continue;
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "button");
      node.setAttribute("aria-label", mark.title || String(mark.key));
      node.dataset.key = mark.key;
      node.style.cursor = "pointer";
      if (String(mark.key) === String(model.get("marked"))) node.setAttribute("stroke", INK), node.setAttribute("stroke-width", 2.5);
      const pick = () => { model.set("picked", { key: mark.key, n: (model.get("picked").n || 0) + 1 }); model.save_changes(); };
      node.addEventListener("click", pick);
      node.addEventListener("keydown", (event) => { if (event.key === "Enter") { pick(); event.stopPropagation(); } });
    }
    for (const entry of legend) {
      const x = left + entry.x, y = 9 + 16 * entry.row, colour = seen(entry.colour);
      shape(entry.marker || "s", x + 5, y, 4, { fill: entry.hollow ? "none" : colour, "fill-opacity": entry.opacity ?? 1, stroke: colour }, svg);
      make("text", { x: x + 14, y: y + 4, fill: INK }, svg, entry.label);
    }
  };
  const watch = new ResizeObserver(() => { if (Math.abs((watch.width || 0) - box.clientWidth) > 2) { watch.width = box.clientWidth; draw(); } });
  watch.observe(box);
  model.on("change:spec change:marked", draw);
  draw();
  return () => { watch.disconnect(); model.off("change:spec change:marked", draw); };
}
export default { render };
