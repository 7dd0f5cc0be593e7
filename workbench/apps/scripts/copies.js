// Buttons that copy what the kernel writes when it is asked: a long text is not sent before somebody wants it.
function render({ model, el }) {
  const bar = document.createElement("div");
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "copy the selection");
  bar.style.cssText = "display:flex;gap:4px;align-items:center";
  let number = 0;
  const asked = new Map();
  const heard = (answer) => {
    asked.get(answer.number)?.(answer.text);
    asked.delete(answer.number);
  };
  model.on("msg:custom", heard);
  const text_of = (what) => new Promise((done) => {
    asked.set(++number, done);
    model.send({ what, number });
  });
  const copy = async (what) => {
    const answer = text_of(what);
    try { // begun within the click: some browsers take nothing later
      const blob = answer.then((text) => new Blob([text], { type: "text/plain" }));
      await navigator.clipboard.write([new ClipboardItem({ "text/plain": blob })]);
    } catch {
      const box = document.createElement("textarea"); // pages without the right to the clipboard
      box.value = await answer;
      document.body.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
  };
  const draw = () => {
    bar.replaceChildren(...model.get("kinds").map(([what, label, tip]) => {
      const button = document.createElement("button");
      button.className = "jupyter-button";
      button.style.cssText = "width:auto;padding:0 8px;margin:0";
      button.dataset.copies = what;
      button.title = tip;
      button.textContent = label;
      button.disabled = !model.get("enabled");
      button.addEventListener("click", async () => {
        await copy(what);
        button.textContent = "copied";
        setTimeout(() => { button.textContent = label; }, 1200);
      });
      return button;
    }));
  };
  model.on("change:kinds change:enabled", draw);
  draw();
  el.replaceChildren(bar);
  return () => { model.off("msg:custom", heard); model.off("change:kinds change:enabled", draw); };
}
export default { render };
