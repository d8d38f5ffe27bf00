// A button that opens the browser's choice of files and sends one to the kernel in pieces, each when the kernel asks for it: a notebook server drops messages above 10 MB without a word.
const PIECE = 1000000; // bytes

export default {
  render({ model, el }) {
    const button = document.createElement("button"), input = document.createElement("input");
    button.className = "jupyter-button widget-button mmemo-upload"; // as the buttons beside it look
    button.style.width = "auto";
    input.type = "file";
    input.style.display = "none";
    el.append(button, input);
    let file = null; // on its way
    const show = () => {
      button.textContent = model.get("label");
      button.disabled = model.get("disabled") || file !== null;
      input.accept = model.get("accept");
    };
    const heard = async (said) => {
      if (!file) return; // another view's
      if (said.kind === "stop" || said.at >= file.size) { file = null; show(); return; }
      const piece = await file.slice(said.at, said.at + PIECE).arrayBuffer().catch(() => null); // gone or changed since it was chosen
      if (piece) model.send({ kind: "piece", at: said.at }, undefined, [piece]);
      else { model.send({ kind: "lost" }); file = null; show(); }
    };
    button.addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      if (!input.files.length) return;
      file = input.files[0];
      input.value = ""; // the same file may be chosen again
      show();
      model.send({ kind: "begin", name: file.name, size: file.size });
    });
    model.on("msg:custom", heard);
    model.on("change:disabled change:label change:accept", show);
    show();
    return () => { model.off("msg:custom", heard); model.off("change:disabled change:label change:accept", show); };
  },
};
