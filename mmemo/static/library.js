
const library = (globalThis.mmemoPlotly ??= (() => {
  let resolve;
  const promise = new Promise((r) => { resolve = r; });
  return { promise, resolve };
})());
export default { initialize() { library.resolve(module.exports); } };
