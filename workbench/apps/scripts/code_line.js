// The line of code and its copy button.
function render({ model, el }) {
  el.innerHTML = "";
  const line = document.createElement("div");
  line.style.cssText = "display:flex;gap:8px;align-items:center;border-top:1px solid var(--jp-border-color1,#bdbdbd);padding-top:8px";
  const code = document.createElement("code");
  code.className = "wb-code";
  code.style.cssText = "flex:1;overflow-x:auto;white-space:pre;font-size:12px;font-family:var(--jp-code-font-family,monospace)";
  const button = document.createElement("button");
  button.className = "jupyter-button wb-key-c";
  button.title = "copy this line (c)";
  button.textContent = "copy";
  const write = () => { code.textContent = model.get("code"); };
  model.on("change:code", write);
  write();
  button.addEventListener("click", async () => {
    const text = model.get("code");
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const box = document.createElement("textarea"); // pages without the right to the clipboard
      box.value = text;
      document.body.append(box);
      box.select();
      document.execCommand("copy");
      box.remove();
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1200);
  });
  line.append(code, button);
  el.append(line);
  return () => model.off("change:code", write);
}
export default { render };
