// Draws the figure that the kernel holds, into one place, as wide as that place is.
// plotly.js itself arrives once a page, through the widget `Library`; whoever comes first makes the promise.
const library = () => (globalThis.mmemoPlotly ??= (() => {
  let resolve;
  const promise = new Promise((r) => { resolve = r; });
  return { promise, resolve };
})());

export default {
  async render({ model, el }) {
    const place = document.createElement("div");
    place.className = "mmemo-figure";
    el.append(place);
    const show = (Plotly) => {
      const { data, layout } = structuredClone(model.get("figure")); // plotly writes into what it is given
      if (!layout) return;
      place.style.height = `${layout.height}px`;
      return Plotly.react(place, data, layout, { displayModeBar: false, responsive: false });
    };
    place.style.height = `${model.get("figure").layout?.height ?? 100}px`;
    const Plotly = await library().promise;
    const draw = () => show(Plotly);
    model.on("change:figure", draw);
    await draw();
    const fit = () => { if (place.offsetWidth && Math.abs(place._fullLayout.width - place.offsetWidth) > 1) Plotly.Plots.resize(place); };
    const widths = new ResizeObserver(fit);
    widths.observe(place);
    fit();
    return () => { widths.disconnect(); model.off("change:figure", draw); Plotly.purge(place); };
  },
};
