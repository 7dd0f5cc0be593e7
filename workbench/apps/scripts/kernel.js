// Says so when the kernel of an app is gone: what is seen stays, and controls that do nothing would be a riddle.
const PATIENCE = 8000; // ms without a connection; front ends try again for minutes
const GONE = ["restarting", "autorestarting", "terminating", "dead"];
const IN_A_NOTEBOOK = "The kernel was restarted, has ended or cannot be reached: what is shown here stays, but its controls do nothing. " +
  "Run the notebook's cells again, from the first.";
const ON_A_PAGE = "The program behind this page has ended or cannot be reached: what is shown here stays, but its controls do nothing. Load the page again.";

function render({ model, el }) {
  const note = document.createElement("div");
  el.classList.add("wb-kernel");
  el.replaceChildren(note);
  el.style.display = "none";

  const tell = (gone) => {
    const root = el.closest(".wb-app");
    if (!root || gone === root.classList.contains("wb-gone")) return;
    root.classList.toggle("wb-gone", gone);
    for (const part of root.children) if (part !== el) part.inert = gone && !part.querySelector(".wb-code"); // code can still be copied
    el.style.display = gone ? "" : "none";
    note.className = gone ? "wb-state wb-broken" : "";
    note.setAttribute("role", "alert");
    note.textContent = !gone ? "" : document.querySelector(".jp-NotebookPanel") ? IN_A_NOTEBOOK : ON_A_PAGE;
  };
  // Front ends tell widgets of a restart that was asked for, not of a kernel that died or lost its memory and came back.
  let ended = false;
  const look = () => requestAnimationFrame(() => tell(ended || Boolean(el.closest(".wb-app.jupyter-widgets-disconnected"))));
  const kernel = model.widget_manager.kernel;
  const status = (_, now) => { if (GONE.includes(now)) ended = true, look(); };
  let waiting = null;
  const connection = (_, now) => {
    clearTimeout(waiting);
    if (now === "connected") look();
    else waiting = setTimeout(() => tell(true), PATIENCE);
  };
  kernel?.statusChanged?.connect(status);
  kernel?.connectionStatusChanged?.connect(connection);
  model.on("comm_live_update", look);
  look(); // shown from a saved notebook, without a kernel
  return () => {
    clearTimeout(waiting);
    kernel?.statusChanged?.disconnect(status);
    kernel?.connectionStatusChanged?.disconnect(connection);
    model.off("comm_live_update", look);
  };
}
export default { render };
