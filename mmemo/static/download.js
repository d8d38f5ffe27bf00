// A button. A press asks the kernel for a file; it comes in pieces, each asked for when the one before is there, and is saved by the browser.
export default {
  render({ model, el }) {
    const button = document.createElement("button");
    button.className = "jupyter-button widget-button mmemo-download"; // as the buttons beside it look
    button.style.width = "auto";
    el.append(button);
    let parts = null; // of the file that is on its way to this view
    const show = (text, busy) => {
      button.textContent = text ?? model.get("label");
      button.disabled = busy ?? !model.get("ready");
    };
    const save = (name, mime) => {
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob(parts, { type: mime }));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    };
    const heard = (said, buffers) => {
      if (!parts) return; // another view asked
      if (said.kind === "no-file") { parts = null; show(said.sentence, false); return; }
      if (said.kind === "piece") parts.push(buffers[0]);
      if (parts.length < said.pieces) { model.send({ kind: "piece", piece: parts.length }); return; }
      save(said.name, said.mime);
      parts = null;
      show();
    };
    button.addEventListener("click", () => {
      parts = [];
      show("Preparing ...", true);
      model.send({ kind: "make" });
    });
    const changed = () => { if (!parts) show(); };
    model.on("msg:custom", heard);
    model.on("change:ready change:label", changed);
    show();
    return () => model.off("msg:custom", heard);
  },
};
