// Shows nothing. Tells the kernel whether the page is light or dark, and tells figures on the page when the panel's width changes.
function theme() {
  const lab = document.body.dataset.jpThemeLight;
  if (lab !== undefined) return lab === "false" ? "dark" : "light";
  return window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

export default {
  render({ model, el }) {
    el.style.height = "0";
    const tell = () => {
      if (model.get("theme") !== theme()) { model.set("theme", theme()); model.save_changes(); }
    };
    const themes = new MutationObserver(tell);
    themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
    tell();
    // plotly's widget listens to the window only, but a panel also changes its width with a side bar or a split
    let width = 0;
    const widths = new ResizeObserver(() => {
      if (el.offsetWidth && el.offsetWidth !== width) { width = el.offsetWidth; 0; }
    });
    widths.observe(el);
    const later = [200, 1000].map((ms) => setTimeout(() => 0, ms));
    return () => { themes.disconnect(); widths.disconnect(); later.forEach(clearTimeout); };
  },
};
