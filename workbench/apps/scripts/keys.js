// Keys of an app: "wb-key-f" and the like on a control. Text that is being typed is left alone, but for Escape.
function render({ el }) {
  el.style.display = "none";
  let root = null;
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest("input:not([type=checkbox]):not([type=range]), textarea, select, [contenteditable=true]");
    const key = event.key === "Escape" ? "esc" : event.key;
    if (typing && key !== "esc") return;
    const control = root.querySelector(`.wb-key-${CSS.escape(key)}`);
    if (!control) return;
    const button = control.matches("button") ? control : control.querySelector("button");
    const field = control.querySelector("input, select, textarea");
    if (button) button.click();
    else if (field) field.focus();
    event.preventDefault();
    event.stopPropagation(); // the notebook has keys of its own
  };
  requestAnimationFrame(() => {
    root = el.closest(".wb-app");
    if (root) root.addEventListener("keydown", press);
  });
  return () => root && root.removeEventListener("keydown", press);
}
export default { render };
