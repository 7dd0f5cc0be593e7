// Small pictures cut from one sheet; a click or the arrow keys choose one. Text is set as text, never as HTML.
function render({ model, el }) {
  const grid = document.createElement("div");
  grid.className = "wb-tiles";
  grid.setAttribute("role", "listbox");
  grid.tabIndex = 0;
  grid.style.cssText = "display:flex;flex-wrap:wrap;gap:4px;align-content:flex-start;outline-offset:-2px";
  el.replaceChildren(grid);
  let url = null;

  const mark = () => {
    const active = model.get("active");
    [...grid.querySelectorAll("[role=option]")].forEach((cell, place) => {
      cell.setAttribute("aria-selected", String(place === active));
      cell.style.outline = place === active ? "2px solid var(--jp-brand-color1,#1976d2)" : "none";
      if (place === active) cell.scrollIntoView({ block: "nearest" });
    });
  };
  const choose = (place) => {
    const last = model.get("cells").length - 1;
    if (last < 0) return;
    model.set("active", Math.max(0, Math.min(last, place)));
    model.save_changes();
    mark();
  };
  const draw = () => {
    if (url) URL.revokeObjectURL(url);
    const bytes = model.get("sheet");
    url = bytes && bytes.byteLength ? URL.createObjectURL(new Blob([bytes], { type: "image/jpeg" })) : null;
    const size = model.get("shown");
    const cells = model.get("cells");
    grid.replaceChildren();
    if (!cells.length) {
      const note = document.createElement("div");
      note.className = "wb-state wb-empty";
      note.textContent = model.get("empty");
      note.style.flex = "1";
      grid.append(note);
    }
    cells.forEach((cell, place) => {
      const box = document.createElement("div");
      box.setAttribute("role", "option");
      box.setAttribute("aria-label", cell.title);
      box.title = cell.title;
      box.style.cssText = `width:${size}px;cursor:pointer`;
      if (cell.waiting || cell.missing) { // its picture is being read, or there is none
        const blank = document.createElement("div");
        blank.className = `wb-state wb-${cell.missing ? "missing" : "loading"}`;
        blank.textContent = cell.missing ?? "";
        blank.style.cssText = `width:${size}px;height:${size}px;padding:0;box-sizing:border-box`;
        box.append(blank);
      } else if (url) {
        const photo = document.createElement("div");
        photo.style.cssText = `width:${size}px;height:${size}px;background-size:${size}px ${size * cells.length}px;` +
          `background-position:0 -${size * place}px;border-bottom:3px solid ${cell.colour};box-sizing:border-box`;
        photo.style.backgroundImage = `url(${url})`;
        box.append(photo);
      }
      const text = document.createElement("div");
      text.style.cssText = "font-size:11px;line-height:1.2;overflow:hidden;text-overflow:ellipsis;white-space:nowrap";
      text.textContent = cell.caption;
      box.append(text);
      box.addEventListener("click", () => { choose(place); grid.focus(); });
      grid.append(box);
    });
    mark();
  };
  grid.addEventListener("keydown", (event) => {
    const columns = Math.max(1, Math.floor(grid.clientWidth / (model.get("shown") + 4)));
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (step === undefined) return;
    choose(model.get("active") + step);
    event.preventDefault();
    event.stopPropagation();
  });
  model.on("change:cells change:sheet change:empty", draw);
  model.on("change:active", mark);
  draw();
  return () => { if (url) URL.revokeObjectURL(url); model.off("change:cells change:sheet change:empty", draw); model.off("change:active", mark); };
}
export default { render };
