
const library = (globalThis.mmemoPlotly ??= (() => {
  let resolve;
  const promise = new Promise((r) => { resolve = r; });
  return { promise, resolve };
})());
library.resolve(module.exports); // here and not in `initialize`: a busy browser may take longer than the two seconds that anywidget gives to that
export default { initialize() {} };
