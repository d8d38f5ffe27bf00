// Shows nothing. Tells the kernel whether the page is light or dark, now and whenever that changes.
function theme() {
  const lab = document.body.dataset.jpThemeLight;
  if (lab !== undefined) return lab === "false" ? "dark" : "light";
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export default {
  render({ model, el }) {
    el.style.display = "none";
    const tell = () => {
      if (model.get("theme") !== theme()) { model.set("theme", theme()); model.save_changes(); }
    };
    const watch = new MutationObserver(tell);
    watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
    tell();
    return () => watch.disconnect();
  },
};
