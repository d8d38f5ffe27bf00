// Draws the figure that the kernel holds, into one place, as wide as that place is; the title stands above it as text that wraps.
// plotly.js itself arrives once a page, through the widget `Library`; whoever comes first makes the promise.
const library = () => (globalThis.mmemoPlotly ??= (() => {
  let resolve;
  const promise = new Promise((r) => { resolve = r; });
  return { promise, resolve };
})());

const line = (el, size, space) => {
  const made = document.createElement("div");
  made.style.cssText = `font-size:${size}px;line-height:1.35;padding-right:8px;margin-top:${space}px;color:var(--jp-ui-font-color1, inherit)`;
  el.append(made);
  return made;
};

const told = (p) => ({ curve: p.curveNumber, point: p.pointNumber ?? p.pointIndex ?? null, x: p.x ?? null, y: p.y ?? null, about: p.customdata ?? null });

export default {
  async render({ model, el }) {
    const title = line(el, 15, 6), subtitle = line(el, 12, 1), place = document.createElement("div");
    title.className = "mmemo-title";
    place.className = "mmemo-figure";
    el.append(place);
    const frame = () => {
      const { layout, ...said } = structuredClone(model.get("figure"));
      for (const [el, text] of [[title, said.title], [subtitle, said.subtitle]]) {
        el.textContent = text ?? "";
        el.style.display = text ? "" : "none";
        el.style.paddingLeft = `${layout?.margin?.l ?? 0}px`;
      }
      place.style.height = `${layout?.height ?? 100}px`;
      return { layout, data: said.data }; // a copy: plotly writes into what it is given
    };
    frame();
    const Plotly = await library().promise;
    const rings = document.createElement("div"); // above the figure, so that another mark draws nothing anew
    rings.style.cssText = "position:absolute;inset:0;pointer-events:none";
    const ring = () => {
      const full = place._fullLayout, { x = [], y = [] } = model.get("marked");
      rings.replaceChildren();
      if (!full?.xaxis?.l2p) return;
      x.forEach((v, i) => {
        const [a, b] = [full.xaxis, full.yaxis].map((axis, k) => axis.l2p([v, y[i]][k]));
        if (a < 0 || b < 0 || a > full.xaxis._length || b > full.yaxis._length) return;
        const one = document.createElement("div");
        one.className = "mmemo-ring";
        one.style.cssText = `position:absolute;box-sizing:border-box;width:17px;height:17px;border:2px solid currentColor;border-radius:50%;left:${full.xaxis._offset + a - 8.5}px;top:${full.yaxis._offset + b - 8.5}px;color:var(--jp-ui-font-color1, ${full.font.color})`;
        rings.append(one);
      });
    };
    const say = (name, value) => { // the count tells the same click a second time
      model.set(name, { ...value, n: (model.get(name).n ?? 0) + 1 });
      model.save_changes();
    };
    const listen = () => { // once, as soon as there is a figure
      place.style.position = "relative";
      place.append(rings);
      place.on("plotly_afterplot", ring);
      place.on("plotly_click", (e) => say("picked", told(e.points[0])));
      place.on("plotly_selected", (e) => e && say("lassoed", { points: e.points.map(told) })); // nothing comes when plotly only draws anew
      place.on("plotly_deselect", () => say("lassoed", { points: [] }));
    };
    const draw = async () => {
      const { data, layout } = frame();
      if (!layout) return; // nothing to draw yet
      await Plotly.react(place, data, layout, { displayModeBar: false, responsive: false });
      if (rings.parentElement !== place) listen();
      ring();
    };
    model.on("change:figure", draw);
    model.on("change:marked", ring);
    await draw();
    const fit = () => {
      if (place.offsetWidth && place._fullLayout && Math.abs(place._fullLayout.width - place.offsetWidth) > 1) Plotly.Plots.resize(place);
    };
    const widths = new ResizeObserver(fit);
    widths.observe(place);
    fit();
    return () => { widths.disconnect(); model.off("change:figure", draw); model.off("change:marked", ring); Plotly.purge(place); };
  },
};
