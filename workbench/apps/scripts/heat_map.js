// A square heat map as a PNG: a click picks a cell, arrow keys move from it, lines mark where it is.
function render({ model, el }) {
  const box = document.createElement("div");
  const image = document.createElement("img");
  const lines = [0, 1].map(() => document.createElement("div"));
  box.style.cssText = "position:relative;width:100%;max-width:520px;aspect-ratio:1;cursor:crosshair;outline-offset:1px";
  box.tabIndex = 0;
  box.setAttribute("role", "application");
  image.style.cssText = "width:100%;height:100%;image-rendering:pixelated;display:block";
  image.draggable = false;
  lines.forEach((line) => { line.style.cssText = "position:absolute;pointer-events:none;box-sizing:border-box;border:0 solid #1a1a1a;outline:1px solid rgba(255,255,255,0.7)"; }); // over light and dark cells
  box.append(image, ...lines);
  el.replaceChildren(box);
  let url = null;

  const draw = () => {
    const bytes = model.get("picture");
    if (url) URL.revokeObjectURL(url);
    url = bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/png" })) : null;
    if (url) image.src = url;
    image.alt = model.get("alt");
    box.setAttribute("aria-label", model.get("alt"));
    box.style.display = url ? "" : "none";
  };
  const mark = () => {
    const [row, column] = model.get("cell"), side = model.get("side");
    const there = side > 0 && row >= 0 && column >= 0;
    lines.forEach((line, across) => {
      line.style.display = there ? "" : "none";
      const at = `${(100 * (across ? column : row)) / side}%`, wide = `max(${100 / side}%, 3px)`;
      Object.assign(line.style, across
        ? { left: at, top: 0, width: wide, height: "100%", borderWidth: "0 1px" }
        : { top: at, left: 0, height: wide, width: "100%", borderWidth: "1px 0" });
    });
  };
  const pick = (row, column) => {
    const last = model.get("side") - 1;
    if (last < 0) return;
    const inside = (place) => Math.max(0, Math.min(last, place));
    model.set("picked", { row: inside(row), column: inside(column), n: (model.get("picked").n || 0) + 1 });
    model.save_changes();
  };
  box.addEventListener("click", (event) => {
    const { left, top, width, height } = box.getBoundingClientRect(), side = model.get("side");
    pick(Math.floor(((event.clientY - top) / height) * side), Math.floor(((event.clientX - left) / width) * side));
    box.focus();
  });
  box.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    const [row, column] = model.get("cell");
    pick(row + step[0], column + step[1]);
    event.preventDefault();
    event.stopPropagation();
  });
  model.on("change:picture change:alt", draw);
  model.on("change:cell change:side", mark);
  draw();
  mark();
  return () => { if (url) URL.revokeObjectURL(url); model.off("change:picture change:alt", draw); model.off("change:cell change:side", mark); };
}
export default { render };
