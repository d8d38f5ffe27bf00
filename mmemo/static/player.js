// The synchronised player: film, heat map, sound, words, label and probabilities under one playhead, on one time axis.
// Everything with time is drawn on one canvas with one scale, so that rows cannot drift apart; a second canvas above it
// holds what moves (playhead, selection, hover). The film comes from the kernel in pieces, each asked for after the last.

const GAP = 9, LEFT = 50, RIGHT = 96, AHEAD = 30; // px, px, px, seconds of film to fetch before they are needed
const HEIGHTS = { map: 250, sound: 58, words: 22, label: 22, curve: 112, axis: 34 };
const SPEAKER = { visual: "face", audio: "voice", text: "words" };
const MODALITY = { visual: "#334E8C", audio: "#B3541E", text: "#4B7F52" };
const SCALES = {
  light: { up: ["#D3DCEF", "#9DB1DA", "#5F7EBE", "#334E8C", "#182850"], down: ["#A98BC4", "#5B2A86"], rise: ["#8DBF99", "#1E6B3C"] },
  dark: { up: ["#1C2947", "#334E8C", "#6C8CD0", "#AFC4EF", "#F0F4FD"], down: ["#6F4A90", "#C9A6E8"], rise: ["#3F8055", "#A4DDB4"] },
};
const DASH = { solid: [], dash: [7, 4], dot: [2, 3], dashdot: [7, 3, 2, 3], longdash: [11, 4] };
const FACE = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";

const STYLE = `
.mmemo-player{font:13px/1.45 var(--jp-ui-font-family,${FACE});color:var(--jp-ui-font-color1,var(--mm-ink));background:var(--jp-layout-color0,var(--mm-paper));
  padding:8px 10px 10px;outline:none;box-sizing:border-box;border:1px solid var(--jp-border-color2,var(--mm-line));border-radius:4px;container-type:inline-size;
  --mm-paper:#fff;--mm-ink:#212121;--mm-soft:#616161;--mm-line:#e0e0e0}
@media(prefers-color-scheme:dark){.mmemo-player{--mm-paper:#111;--mm-ink:#e6e6e6;--mm-soft:#ababab;--mm-line:#333}}
.mmemo-player:focus-visible{border-color:var(--jp-brand-color1,#334E8C)}
.mmemo-player *{box-sizing:border-box}
.mm-facts,.mm-choose,.mm-play{display:flex;flex-wrap:wrap;align-items:center;gap:4px 10px;min-height:28px}
.mm-facts>span:not(:last-child)::after{content:"·";padding-left:10px;color:var(--jp-ui-font-color2,var(--mm-soft))}
.mm-facts b{font-weight:600}.mm-wrong{outline:1px solid currentColor;padding:0 5px}
.mm-chip{display:inline-block;width:9px;height:9px;margin-right:5px;border-radius:1px}
.mm-choose{margin-bottom:4px}.mm-worth{flex-basis:100%;font-size:13px}.mm-choose b{font-weight:600}.mm-soft{color:var(--jp-ui-font-color2,var(--mm-soft));font-size:12px}
.mm-body{display:grid;grid-template-columns:var(--mm-left,220px) minmax(0,1fr);column-gap:6px}
.mm-side{position:relative}.mm-name{position:absolute;right:0;text-align:right;font-size:12px;line-height:16px;color:var(--jp-ui-font-color2,var(--mm-soft));transform:translateY(-50%)}
.mm-screen{position:absolute;left:0;top:0;z-index:2;display:flex;align-items:flex-start;justify-content:center;overflow:hidden}
.mm-screen video{width:100%;height:100%;object-fit:contain;object-position:top left;border-radius:2px;cursor:pointer;display:block}
.mm-word{padding:10px 12px;font-size:12px;line-height:1.45;color:var(--jp-ui-font-color2,var(--mm-soft));border:1px dashed var(--jp-border-color2,var(--mm-line));border-radius:3px;width:100%}
.mm-stage{position:relative;overflow:hidden;touch-action:none}.mm-stage canvas{position:absolute;left:0;top:0;width:100%;height:100%}
.mm-tip{position:absolute;pointer-events:none;font-size:12px;line-height:1.4;padding:3px 8px;white-space:nowrap;border-radius:3px;z-index:3;display:none;
  background:var(--jp-layout-color0,var(--mm-paper));border:1px solid var(--jp-border-color1,var(--mm-line));box-shadow:0 1px 4px rgba(0,0,0,.25)}
.mmemo-player button,.mmemo-player select{font:inherit;font-size:12px;height:26px;padding:0 9px;color:inherit;background:var(--jp-layout-color1,transparent);
  border:1px solid var(--jp-border-color1,var(--mm-line));border-radius:3px;cursor:pointer;max-width:100%}
.mmemo-player select{padding:0 4px}.mmemo-player button:hover{background:var(--jp-layout-color2,rgba(127,127,127,.15))}
.mmemo-player button:focus-visible,.mmemo-player select:focus-visible{outline:2px solid var(--jp-brand-color1,#334E8C);outline-offset:1px}
.mmemo-player button[aria-pressed=true]{border-color:var(--jp-ui-font-color1,var(--mm-ink));font-weight:600}
.mmemo-player button:disabled{opacity:.45;cursor:default}
.mm-play{margin-top:4px}.mm-play .mm-go{min-width:64px}.mm-set{display:inline-flex}.mm-set button{border-radius:0;margin-left:-1px}
.mm-set button:first-child{border-radius:3px 0 0 3px;margin:0}.mm-set button:last-child{border-radius:0 3px 3px 0}
.mm-clock{margin-left:auto;font-variant-numeric:tabular-nums}`;

const make = (tag, cls, to, text) => {
  const el = document.createElement(tag);
  if (cls) el.className = cls;
  if (text !== undefined) el.textContent = text;
  to?.append(el);
  return el;
};
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);
const floats = (view) => (view ? new Float32Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)) : new Float32Array());
const bytes = (view, Kind = Uint8Array) => (view ? new Kind(view.buffer, view.byteOffset, view.byteLength) : new Kind());
const clockText = (s) => `${Math.floor(s / 60)}:${(s % 60).toFixed(2).padStart(5, "0")}`;
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function parseColour(text) { // what getComputedStyle gives
  const n = (text.match(/[\d.]+/g) ?? []).map(Number);
  return text.startsWith("#") && text.length === 7 ? rgb(text) : n.length >= 3 ? n.slice(0, 3) : [255, 255, 255];
}

function ramp(stops, n = 256) { // colours in equal steps -> a table of n of them
  const out = new Uint8Array(n * 3);
  for (let i = 0; i < n; i++) {
    const at = (i / (n - 1)) * (stops.length - 1), a = Math.min(Math.floor(at), stops.length - 2), f = at - a;
    for (let c = 0; c < 3; c++) out[3 * i + c] = Math.round(stops[a][c] * (1 - f) + stops[a + 1][c] * f);
  }
  return out;
}

function ticks(low, high, most) { // round numbers within an interval
  const raw = (high - low) / Math.max(most, 1), ten = 10 ** Math.floor(Math.log10(raw || 1));
  const step = [1, 2, 5, 10].map((m) => m * ten).find((s) => s >= raw) ?? ten * 10, out = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) out.push(Number(v.toFixed(6)));
  return [out, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

function nearest(times, t, reach) { // index of the step that covers t; -1 where none does
  let a = 0, b = times.length - 1;
  while (a < b) { const m = (a + b) >> 1; if (times[m] < t) a = m + 1; else b = m; }
  if (a > 0 && t - times[a - 1] <= times[a] - t) a--;
  return times.length && Math.abs(times[a] - t) <= reach ? a : -1;
}

function stepOf(times) { // the usual distance of two steps
  if (times.length < 2) return 0.04;
  const gaps = Array.from(times.subarray(1), (v, i) => v - times[i]).sort((x, y) => x - y);
  return gaps[gaps.length >> 1];
}

// The film: asks for one piece at a time and hands whole segments to the browser's MediaSource, which plays on with what it has.
class Film {
  constructor(video, send, say, arrived) { Object.assign(this, { video, send, say, arrived, me: Math.random().toString(36).slice(2) }); }
  load(media) {
    this.drop();
    this.media = media;
    if (!media.key || !(media.video || media.audio)) return;
    this.have = media.segments.map(() => false);
    this.pieces = [];
    this.waiting = this.buffer = null;
    if (!globalThis.MediaSource) return this.say("This browser cannot play film that arrives in pieces; the rows below still follow the playhead.");
    const source = (this.source = new MediaSource());
    this.url = URL.createObjectURL(source);
    this.video.src = this.url;
    source.addEventListener("sourceopen", () => { if (source === this.source) { source.duration = media.end; this.want(0); } }, { once: true });
  }
  drop() {
    if (this.url) { this.video.removeAttribute("src"); this.video.load(); URL.revokeObjectURL(this.url); }
    this.url = this.source = this.media = this.buffer = null;
    this.waiting = null;
  }
  get on() { return Boolean(this.source && this.media); }
  want(t) { // ask for the first segment that is missing at t or soon after
    if (!this.on || this.waiting !== null || this.source.readyState === "closed") return;
    const next = this.media.segments.findIndex(([a, b], i) => !this.have[i] && b > t && a < t + AHEAD);
    if (next < 0) return;
    this.waiting = next;
    this.pieces = [];
    this.ask();
  }
  ask() { this.send({ kind: "piece", key: this.media.key, segment: this.waiting, piece: this.pieces.length, view: this.me }); }
  async take(said, data) {
    if (!this.on || said.view !== this.me || said.key !== this.media.key || said.segment !== this.waiting) return;
    if (said.kind === "no-film") { this.have[said.segment] = true; this.waiting = null; return this.say(said.sentence); }
    if (said.piece !== this.pieces.length) return;
    this.pieces.push(bytes(data).slice());
    if (this.pieces.length < said.pieces) return this.ask();
    const { source, media, waiting } = this;
    try { await this.append(said.mime, this.pieces, media.segments[waiting][0]); }
    catch (e) { this.waiting = null; this.have.fill(true); return this.say(`This browser cannot play the film (${e.message}); the rows below still follow the playhead.`); }
    if (source !== this.source) return;
    this.have[waiting] = true;
    this.waiting = null;
    if (this.have.every(Boolean) && source.readyState === "open") source.endOfStream();
    this.arrived();
    this.want(this.video.currentTime);
  }
  append(mime, pieces, at) {
    this.buffer ??= this.source.addSourceBuffer(mime);
    const buffer = this.buffer;
    return new Promise((done, fail) => {
      buffer.addEventListener("updateend", done, { once: true });
      buffer.addEventListener("error", () => fail(new Error("it cannot be decoded")), { once: true });
      buffer.timestampOffset = at;
      const whole = new Uint8Array(pieces.reduce((n, p) => n + p.length, 0));
      pieces.reduce((n, p) => (whole.set(p, n), n + p.length), 0);
      buffer.appendBuffer(whole);
    });
  }
}

function render({ model, el }) {
  const get = (k) => model.get(k);
  const root = make("div", "mmemo-player", el);
  make("style", "", root, STYLE);
  root.tabIndex = 0;
  root.dataset.lmSuppressShortcuts = "true"; // the keys are ours while the player has the focus
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "synchronised player");
  const facts = make("div", "mm-facts", root), choose = make("div", "mm-choose", root), body = make("div", "mm-body", root);
  const side = make("div", "mm-side", body), stage = make("div", "mm-stage", body), screen = make("div", "mm-screen", side);
  const video = make("video", "", screen), word = make("div", "mm-word", screen);
  video.playsInline = true;
  video.preload = "auto";
  const still = make("canvas", "mm-still", stage), live = make("canvas", "mm-live", stage), tip = make("div", "mm-tip", stage);
  const controls = make("div", "mm-play", root);
  const names = Object.fromEntries(["sound", "words", "label", "curve"].map((k) => [k, make("div", "mm-name", side)]));

  // state of this view
  let data = {}, map = null, rows = {}, size = { w: 0, h: 0 }, ink = {}, now = get("time") ?? 0, began = null, frame = 0, said = "", mine = false, lastTold = 0, drag = null, pointer = null, hover = null, dead = false, tight = false;
  const film = new Film(video, (m) => model.send(m), (s) => { said = s; layout(); }, () => { drawStill(); });
  const put = (values) => { mine = true; for (const [k, v] of Object.entries(values)) model.set(k, v); mine = false; model.save_changes(); };

  // time
  const end = () => data.end || 1;
  const span = () => { const s = get("span"); return s?.length === 2 && s[1] > s[0] ? s : [0, end()]; };
  const chosen = () => { const s = get("selection"); return s?.length === 2 ? s : null; };
  const rolling = () => film.on && film.buffer && video.readyState > 0;
  function seek(t, tell = true) {
    now = clamp(t, 0, end());
    if (film.on) { film.want(now); if (video.readyState > 0) video.currentTime = now; }
    began = began && { at: performance.now(), from: now };
    follow();
    if (tell) put({ time: now });
    paint();
  }
  function play(on) {
    if (on && now >= end() - 1e-3) seek(0, false);
    const s = get("loop") && chosen();
    if (on && s && (now < s[0] || now >= s[1])) seek(s[0], false);
    began = on ? { at: performance.now(), from: now } : null;
    if (film.on) {
      video.playbackRate = get("speed") || 1;
      if (on) video.play().catch(() => { if (!dead && get("playing") && video.paused) { said = ""; put({ playing: false }); play(false); } });
      else { video.pause(); }
    }
    if (!on) put({ time: now });
    labels();
    paint();
  }
  function tick() {
    frame = 0;
    if (dead) return;
    if (get("playing")) {
      const rate = get("speed") || 1;
      if (rolling()) now = Math.min(video.currentTime, end());
      else if (!film.on && began) now = began.from + ((performance.now() - began.at) / 1000) * rate;
      const s = chosen(), [a, b] = get("loop") ? s ?? [0, end()] : [0, end()];
      if (get("loop") && now >= b - 0.005) { seek(a, false); if (film.on && video.paused) video.play().catch(() => {}); }
      else if (now >= end() - 0.005 || (film.on && video.ended)) { now = end(); put({ playing: false }); play(false); }
      if (performance.now() - lastTold > 250) { lastTold = performance.now(); put({ time: now }); }
      film.want(now);
      follow();
      if (get("playing")) frame ||= requestAnimationFrame(tick);
    }
    drawLive();
  }
  const paint = () => { frame ||= requestAnimationFrame(tick); };
  function follow() { // a zoomed view turns the page with the playhead
    const [a, b] = span();
    if (b - a >= end() - 1e-6 || (now >= a && now <= b)) return;
    const from = clamp(now < a ? now - (b - a) * 0.8 : now - (b - a) * 0.1, 0, end() - (b - a));
    put({ span: [from, from + b - a] });
    drawStill();
  }

  // scale
  const right = () => (tight ? 66 : RIGHT), plot = () => [LEFT, size.w - right()];
  const x = (t) => { const [a, b] = span(), [l, r] = plot(); return l + ((t - a) / (b - a)) * (r - l); };
  const time = (px) => { const [a, b] = span(), [l, r] = plot(); return clamp(a + ((px - l) / (r - l)) * (b - a), 0, end()); };
  const inside = (name, y) => rows[name] && y >= rows[name][0] && y < rows[name][0] + rows[name][1];
  const mapY = (t) => { const [top, h] = rows.map, [a, b] = map.yspan; return top + h - ((t - a) / (b - a)) * h; };

  function read() { // what the kernel says, in the browser's own types
    const r = get("rows") ?? {}, m = get("map") ?? {};
    data = { ...r };
    if (r.sound) data.wave = { low: bytes(r.sound.low, Int8Array), high: bytes(r.sound.high, Int8Array), every: r.sound.every, peak: r.sound.peak };
    if (r.spectrum) data.spectrum = { ...r.spectrum, values: bytes(r.spectrum.values) };
    if (r.curve) data.curve = { ...r.curve, time: floats(r.curve.time), values: floats(r.curve.values), rated: r.curve.rated && { time: floats(r.curve.rated.time), values: floats(r.curve.rated.values) } };
    map = m.values ? { ...m, weights: m.bits === 8 ? bytes(m.values) : floats(m.values), qt: floats(m.query_time), kt: floats(m.key_time) } : null;
    if (map) {
      map.at = (q, k) => (map.bits === 8 ? map.low + (map.weights[q * map.kt.length + k] / 255) * (map.high - map.low) : map.weights[q * map.kt.length + k]);
      map.qs = stepOf(map.qt); map.ks = stepOf(map.kt);
      const n = map.qt.length;
      map.yspan = map.names ? [0, n] : [map.qt[0] - map.qs / 2, map.qt[n - 1] + map.qs / 2];
      map.xspan = [map.kt[0] - map.ks / 2, map.kt[map.kt.length - 1] + map.ks / 2];
    }
  }

  function theme() {
    const lab = document.body.dataset.jpThemeLight;
    return lab !== undefined ? (lab === "false" ? "dark" : "light") : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  }
  function inks() {
    const css = getComputedStyle(root), name = theme();
    ink = { name, paper: css.backgroundColor, text: css.color, soft: name === "dark" ? "#ABABAB" : "#616161", grid: name === "dark" ? "#2E2E2E" : "#E9E9E9", back: parseColour(css.backgroundColor) };
    if (/rgba\(0, 0, 0, 0\)|transparent/.test(css.backgroundColor)) ink.back = name === "dark" ? [17, 17, 17] : [255, 255, 255];
    const s = SCALES[name];
    ink.up = ramp([ink.back, ...s.up.map(rgb)]);
    ink.both = ramp([...[...s.down].reverse().map(rgb), ink.back, ...s.rise.map(rgb)]);
    if (get("theme") !== name) put({ theme: name });
  }

  function layout() {
    if (dead) return;
    const w = root.clientWidth - 22;
    if (w < 60) return;
    tight = w < 420; // room for three letters beside the curves
    const narrow = w < 640, left = tight ? 50 : narrow ? 66 : Math.round(clamp(w * 0.21, 112, 240)); // where it is narrow the film stands above the map
    body.style.setProperty("--mm-left", `${left}px`);
    const h = { ...HEIGHTS, map: map ? (map.names ? 40 + 44 * map.names.length : w < 760 ? 216 : HEIGHTS.map) : 96 };
    if (get("media")?.video && !map && !narrow) h.map = Math.min(left, 170);
    if (!data.wave) h.sound = 34;
    const shown = get("media")?.video && !said, above = narrow ? (shown ? 170 : 44) : 0;
    let y = 4 + above;
    rows = {};
    for (const k of ["map", "sound", "words", "label", "curve", "axis"]) {
      rows[k] = [y, h[k]];
      y += h[k] + (k === "curve" ? 2 : k === "map" && map?.axes && map.axes.key !== "time" ? GAP + 30 : GAP);
    }
    size = { w: w - left - 6, h: y };
    side.style.height = stage.style.height = `${y}px`;
    screen.style.height = `${narrow ? above - 8 : h.map}px`;
    screen.style.width = `${narrow ? w : left}px`;
    screen.style.top = `${narrow ? 4 : rows.map[0]}px`;
    for (const [k, node] of Object.entries(names)) node.style.top = `${rows[k][0] + rows[k][1] / 2}px`;
    names.sound.textContent = "voice"; names.words.textContent = data.words?.length && !data.words_timed && !narrow ? "words (times guessed)" : "words";
    names.label.textContent = data.curve?.kind === "value" ? "rated" : "label"; names.curve.textContent = data.curve?.kind === "value" ? "value" : "p(class)";
    if (data.curve?.window && !narrow) { make("br", "", names.curve); names.curve.append(`windows of ${data.curve.window.toFixed(1)} s`); }
    const media = get("media") ?? {};
    video.style.display = media.video && !said ? "" : "none";
    word.textContent = said || media.why || (media.video ? "" : "There is no film to show.");
    word.style.display = video.style.display === "none" ? "" : "none";
    for (const c of [still, live]) { const d = devicePixelRatio || 1; c.width = Math.round(size.w * d); c.height = Math.round(size.h * d); c.getContext("2d").setTransform(c.width / size.w, 0, 0, c.height / size.h, 0, 0); }
    inks();
    point();
    drawStill();
  }

  // drawing: what stands still
  const write = (g, text, px, py, align = "left", colour = ink.soft, base = "middle", weight = "") => {
    g.font = `${weight} 12px ${FACE}`; g.textAlign = align; g.textBaseline = base; g.fillStyle = colour; g.fillText(text, px, py);
  };
  const line = (g, x0, y0, x1, y1, colour, width = 1) => { g.strokeStyle = colour; g.lineWidth = width; g.beginPath(); g.moveTo(x0, y0); g.lineTo(x1, y1); g.stroke(); };
  function sentence(g, text, row) {
    const [l, r] = plot(), words = text.split(" "), lines = [""];
    g.font = `12px ${FACE}`;
    for (const word of words) { const more = `${lines.at(-1)} ${word}`.trim(); if (g.measureText(more).width > r - l - 16 && lines.at(-1)) lines.push(word); else lines[lines.length - 1] = more; }
    lines.forEach((t, i) => write(g, t, l + 4, row[0] + row[1] / 2 + (i - (lines.length - 1) / 2) * 16));
  }
  function clipped(g, row, draw) {
    const [l, r] = plot();
    g.save(); g.beginPath(); g.rect(l, row[0] - 1, r - l, row[1] + 2); g.clip(); draw(); g.restore();
  }

  function drawStill() {
    if (!size.w || dead) return;
    const g = still.getContext("2d"), [l, r] = plot(), says = data.says ?? {};
    g.clearRect(0, 0, size.w, size.h);
    const [at, digits] = ticks(...span(), Math.max(2, Math.floor((r - l) / 76)));
    for (const t of at) for (const k of ["sound", "words", "label", "curve"]) line(g, Math.round(x(t)) + 0.5, rows[k][0], Math.round(x(t)) + 0.5, rows[k][0] + rows[k][1], ink.grid);
    drawMap(g);
    if (!data.wave) sentence(g, says.sound ?? "This clip has no sound track; only the face speaks here.", rows.sound);
    else if (get("sound") === "spectrogram" && data.spectrum) drawSpectrum(g);
    else drawWave(g);
    if (data.words?.length) drawSpans(g, rows.words, data.words.map(([t, a, b], i, all) => ({ text: t, a, b: Math.max(b, all[i + 1]?.[1] ?? span()[1]) })), false);
    else sentence(g, says.words ?? "No words are known for this clip.", rows.words);
    if (data.label?.length) drawSpans(g, rows.label, data.label.map(([a, b, t]) => ({ text: t, a, b, colour: data.colours?.[t] ?? "#7F7F7F" })), true);
    else sentence(g, says.label ?? "This clip carries no label.", rows.label);
    if (data.curve) drawCurve(g); else sentence(g, "There are no probabilities for this clip.", rows.curve);
    const y = rows.axis[0] + 4;
    line(g, l, y, r, y, ink.soft);
    for (const t of at) { line(g, x(t), y, x(t), y + 4, ink.soft); write(g, t.toFixed(digits), clamp(x(t), l, r), y + 18, "center"); }
    write(g, "time (s)", Math.min(r + 22, size.w - 46), y + 18);
    if (film.on) film.media.segments.forEach(([a, b], i) => { if (film.have[i]) { const p = clamp(x(a), l, r), q = clamp(x(b), l, r); if (q > p) line(g, p, y, q, y, ink.text, 2); } });
    drawLive();
  }

  function drawMap(g) {
    const [top, h] = rows.map, [l, r] = plot(), says = data.says ?? {};
    if (!map) return sentence(g, get("map")?.says ?? says.map ?? "There is no map for this clip.", rows.map);
    const d = still.width / size.w, W = Math.round((r - l) * d), H = Math.round(h * d), image = g.createImageData(W, H), timed = map.axes.key === "time";
    const table = map.signed ? ink.both : ink.up, top1 = map.signed ? Math.max(Math.abs(map.low), Math.abs(map.high)) || 1 : map.high || 1;
    const column = Int32Array.from({ length: W }, (_, i) => timed ? nearest(map.kt, time(l + (i + 0.5) / d), map.ks * 0.75) : Math.min(map.kt.length - 1, Math.floor((i / W) * map.kt.length)));
    for (let j = 0; j < H; j++) {
      const v = 1 - (j + 0.5) / H;
      const q = map.names ? map.names.length - 1 - Math.floor(v * map.names.length) : nearest(map.qt, map.yspan[0] + v * (map.yspan[1] - map.yspan[0]), map.qs * 0.75);
      for (let i = 0; i < W; i++) {
        const k = column[i], o = 4 * (j * W + i);
        let c = map.signed ? 128 : 0;
        if (q >= 0 && k >= 0) { const z = map.at(q, k); if (z === z) c = Math.round(map.signed ? 127.5 + 127.5 * clamp(z / top1, -1, 1) : 255 * clamp(z / top1, 0, 1)); }
        image.data[o] = table[3 * c]; image.data[o + 1] = table[3 * c + 1]; image.data[o + 2] = table[3 * c + 2]; image.data[o + 3] = 255;
      }
    }
    g.putImageData(image, Math.round(l * d), Math.round(top * d));
    g.strokeStyle = ink.grid; g.lineWidth = 1; g.strokeRect(l - 0.5, top - 0.5, r - l + 1, h + 1);
    if (map.names) map.names.forEach((n, i) => { const y = top + ((i + 0.5) / map.names.length) * h; write(g, n, l - 8, y, "right", ink.text); if (i) line(g, l, top + (i / map.names.length) * h, r, top + (i / map.names.length) * h, ink.paper, 2); });
    else {
      const [at, digits] = ticks(...map.yspan, Math.max(2, Math.floor(h / 48)));
      for (const t of at) { const y = mapY(t); if (y > top + h + 1 || y < top - 1) continue; line(g, l - 4, y, l, y, ink.soft); write(g, t.toFixed(digits), l - 7, clamp(y, top + 6, top + h - 6), "right"); }
      g.save(); g.translate(10, top + h / 2); g.rotate(-Math.PI / 2);
      write(g, map.axes.query === "time" ? `${SPEAKER[map.query] ?? map.query} time (s)` : `${SPEAKER[map.query] ?? map.query}: feature`, 0, 0, "center"); g.restore();
    }
    if (!timed) {
      const n = map.kt.length, [at] = ticks(0, n, Math.floor((r - l) / 90));
      for (const v of at) write(g, String(v), l + (v / n) * (r - l), top + h + 10, "center");
      write(g, `${SPEAKER[map.key] ?? map.key}: feature (not time; the playhead does not apply here)`, (l + r) / 2, top + h + 26, "center");
    }
    const bx = r + 12, by = top + 24, bh = Math.max(40, Math.min(h - 30, 150));
    for (let i = 0; i < bh; i++) { const c = Math.round(255 * (1 - i / (bh - 1))); g.fillStyle = `rgb(${table[3 * c]},${table[3 * c + 1]},${table[3 * c + 2]})`; g.fillRect(bx, by + i, 11, 1.5); }
    g.strokeStyle = ink.grid; g.strokeRect(bx - 0.5, by - 0.5, 12, bh + 1);
    if (!tight || (map.unit ?? "").length < 8) write(g, map.unit ?? "weight", bx - 1, top + 10, "left", ink.text);
    const mark = (v) => (Math.abs(v) >= 100 ? v.toFixed(0) : Number(v.toPrecision(2)).toString());
    for (const [f, v] of map.signed ? [[0, top1], [0.5, 0], [1, -top1]] : [[0, top1], [0.5, top1 / 2], [1, 0]]) write(g, mark(v), bx + 17, clamp(by + f * bh, by + 5, by + bh - 5));
  }

  function drawWave(g) {
    const [top, h] = rows.sound, [l, r] = plot(), w = data.wave, mid = top + h / 2, scale = h / 2 / 127;
    line(g, l, mid, r, mid, ink.grid);
    g.fillStyle = ink.name === "dark" ? "#D9825A" : MODALITY.audio;
    for (let px = Math.floor(l); px < r; px++) {
      const a = Math.floor(time(px) / w.every), b = Math.max(a + 1, Math.ceil(time(px + 1) / w.every));
      if (a >= w.low.length) break;
      let low = 127, high = -127;
      for (let i = a; i < Math.min(b, w.low.length); i++) { if (w.low[i] < low) low = w.low[i]; if (w.high[i] > high) high = w.high[i]; }
      if (high >= low) g.fillRect(px, mid - high * scale, 1, Math.max(1, (high - low) * scale));
    }
  }
  function drawSpectrum(g) {
    const [top, h] = rows.sound, [l, r] = plot(), s = data.spectrum, d = still.width / size.w, W = Math.round((r - l) * d), H = Math.round(h * d), image = g.createImageData(W, H);
    for (let i = 0; i < W; i++) {
      const k = Math.round(time(l + (i + 0.5) / d) / s.every);
      for (let j = 0; j < H; j++) {
        const q = Math.min(s.rows - 1, Math.floor((1 - (j + 0.5) / H) * s.rows)), c = k < s.columns ? s.values[q * s.columns + k] : 0, o = 4 * (j * W + i);
        image.data.set([ink.up[3 * c], ink.up[3 * c + 1], ink.up[3 * c + 2], 255], o);
      }
    }
    g.putImageData(image, Math.round(l * d), Math.round(top * d));
    write(g, `${(s.top / 1000).toFixed(0)} kHz`, l - 5, top + 6, "right"); write(g, "0", l - 5, top + h - 6, "right");
  }
  function drawSpans(g, row, spans, filled) {
    const [top, h] = row;
    clipped(g, row, () => {
      for (const s of spans) {
        const a = x(s.a), b = x(s.b);
        if (b < plot()[0] || a > plot()[1]) continue;
        if (filled) { g.globalAlpha = 0.24; g.fillStyle = s.colour; g.fillRect(a, top, b - a, h); g.globalAlpha = 1; g.fillRect(a, top + h - 3, Math.max(1, b - a - 1), 3); }
        else line(g, a + 0.5, top + 2, a + 0.5, top + h - 2, ink.grid);
        g.save(); g.beginPath(); g.rect(a, top, b - a, h); g.clip();
        g.font = `12px ${FACE}`;
        const from = Math.max(a, plot()[0]) + 4, room = b - from - 2, wide = g.measureText(s.text).width;
        if (wide <= room) write(g, s.text, from, top + h / 2 - (filled ? 1 : 0), "left", ink.text);
        else if (room > 14) { let t = s.text; while (t.length > 1 && g.measureText(`${t}…`).width > room) t = t.slice(0, -1); write(g, filled ? t : `${t}…`, from, top + h / 2 - (filled ? 1 : 0), "left", ink.text); }
        g.restore();
      }
    });
  }
  const curveY = (v) => { const [top, h] = rows.curve, c = data.curve; return top + 3 + (1 - (v - c.low) / (c.high - c.low)) * (h - 6); };
  function drawCurve(g) {
    const [top, h] = rows.curve, [l, r] = plot(), c = data.curve, n = c.classes.length;
    for (const v of [c.low, (c.low + c.high) / 2, c.high]) { line(g, l, curveY(v), r, curveY(v), ink.grid); write(g, String(Number(v.toFixed(2))), l - 7, clamp(curveY(v), top + 6, top + h - 6), "right"); }
    const order = [...Array(n).keys()].filter((k) => k !== c.lead).concat(c.lead >= 0 ? [c.lead] : []), lasts = [];
    clipped(g, rows.curve, () => {
      if (c.rated) for (let k = 0; k < n; k++) { // what people gave: pale and broad, behind
        g.globalAlpha = 0.38; g.strokeStyle = c.colours[k]; g.lineWidth = 6; g.setLineDash([]); g.lineJoin = "round"; g.beginPath();
        for (let i = 0, on = false; i < c.rated.time.length; i++) { const v = c.rated.values[i * n + k]; if (Number.isNaN(v)) { on = false; continue; } const px = x(c.rated.time[i]), py = curveY(v); on ? g.lineTo(px, py) : g.moveTo(px, py); on = true; }
        g.stroke(); g.globalAlpha = 1;
      }
      for (const k of order) {
        g.strokeStyle = c.colours[k]; g.lineWidth = k === c.lead ? 3 : 1.2; g.setLineDash(k === c.lead ? [] : DASH[c.dashes[k]] ?? []); g.lineJoin = "round"; g.beginPath();
        for (let i = 0; i < c.time.length; i++) { const px = x(c.time[i]), py = curveY(c.values[i * n + k]); i ? g.lineTo(px, py) : g.moveTo(px, py); }
        if (c.time.length === 1) { g.moveTo(l, curveY(c.values[k])); g.lineTo(r, curveY(c.values[k])); }
        g.stroke();
      }
      g.setLineDash([]);
    });
    const last = Math.max(0, nearest(c.time, span()[1], Infinity));
    for (let k = 0; k < n; k++) lasts.push({ k, y: curveY(c.values[last * n + k]) });
    lasts.sort((p, q) => p.y - q.y);
    const gap = Math.min(14, (h - 2) / Math.max(n, 1));
    lasts.forEach((p, i) => { p.y = Math.max(p.y, top + 5, i ? lasts[i - 1].y + gap : 0); });
    for (let i = n - 1, floor = top + h - 4; i >= 0; i--, floor -= gap) lasts[i].y = Math.min(lasts[i].y, floor);
    for (const p of lasts) {
      g.strokeStyle = c.colours[p.k]; g.lineWidth = p.k === c.lead ? 3 : 1.6; g.setLineDash(p.k === c.lead ? [] : DASH[c.dashes[p.k]] ?? []);
      g.beginPath(); g.moveTo(r + 5, p.y); g.lineTo(r + 21, p.y); g.stroke(); g.setLineDash([]);
      write(g, tight ? c.classes[p.k].slice(0, 3) : c.classes[p.k], r + 25, p.y + 0.5, "left", ink.text, "middle", p.k === c.lead ? "600" : "");
    }
  }

  // drawing: what moves
  function drawLive() {
    if (!size.w || dead) return;
    const g = live.getContext("2d"), [l, r] = plot(), bottom = rows.axis[0] + 4, s = drag?.moved ? drag.span : chosen(), timed = !map || map.axes.key === "time", top = timed ? rows.map[0] : rows.sound[0];
    g.clearRect(0, 0, size.w, size.h);
    if (s) {
      const a = clamp(x(s[0]), l, r), b = clamp(x(s[1]), l, r);
      g.fillStyle = ink.name === "dark" ? "rgba(255,255,255,.11)" : "rgba(30,30,30,.09)";
      g.fillRect(a, rows.sound[0], b - a, bottom - rows.sound[0]); // not over the map: a tint would change what its colours say
      for (const px of [a, b]) line(g, px, top, px, bottom, ink.soft);
    }
    if (hover && hover.t !== undefined) line(g, x(hover.t), top, x(hover.t), bottom, ink.name === "dark" ? "rgba(255,255,255,.3)" : "rgba(0,0,0,.22)");
    const px = x(now);
    if (px >= l - 1 && px <= r + 1) {
      line(g, px, top, px, bottom, ink.name === "dark" ? "rgba(0,0,0,.6)" : "rgba(255,255,255,.75)", 4);
      if (map && timed && !map.names && map.axes.query === "time" && now >= map.yspan[0] && now <= map.yspan[1]) {
        const y = mapY(now);
        line(g, l, y, r, y, ink.name === "dark" ? "rgba(0,0,0,.6)" : "rgba(255,255,255,.75)", 3);
        g.setLineDash([5, 4]); line(g, l, y, r, y, ink.text, 1.2); g.setLineDash([]);
      }
      line(g, px, top, px, bottom, ink.text, 1.6);
      g.fillStyle = ink.text; g.beginPath(); g.moveTo(px - 6, bottom + 8); g.lineTo(px + 6, bottom + 8); g.lineTo(px, bottom); g.fill();
      const c = data.curve, i = c ? nearest(c.time, now, Infinity) : -1;
      if (i >= 0 && c.lead >= 0) { g.beginPath(); g.arc(px, curveY(c.values[i * c.classes.length + c.lead]), 4, 0, 7); g.fillStyle = c.colours[c.lead]; g.fill(); g.strokeStyle = ink.paper; g.lineWidth = 1.5; g.stroke(); }
    }
    clock.textContent = `${clockText(now)} / ${clockText(end())}`;
  }

  function told(px, py) { // what lies under the pointer
    const t = time(px), [l, r] = plot();
    if (px < l || px > r) return null;
    const sec = (v) => `${v.toFixed(2)} s`, num = (v) => (Math.abs(v) < 0.01 && v ? v.toExponential(1) : v.toFixed(3));
    if (inside("map", py)) {
      if (!map) return null;
      const [top, h] = rows.map, v = 1 - (py - top) / h, timed = map.axes.key === "time";
      const k = timed ? nearest(map.kt, t, map.ks * 0.75) : Math.min(map.kt.length - 1, Math.floor(((px - l) / (r - l)) * map.kt.length));
      if (map.names) { const q = clamp(map.names.length - 1 - Math.floor(v * map.names.length), 0, map.names.length - 1); return k < 0 ? null : { t, text: `${map.names[q]} at ${sec(map.kt[k])}: ${num(map.at(q, k))}` }; }
      const q = nearest(map.qt, map.yspan[0] + v * (map.yspan[1] - map.yspan[0]), map.qs * 0.75);
      const name = (m, axis, value) => `${SPEAKER[m] ?? m} ${axis === "time" ? sec(value) : `feature ${Math.round(value)}`}`;
      if (q < 0 || k < 0) return { t: timed ? t : undefined, text: "masked: nothing was seen here" };
      return { t: timed ? t : undefined, text: `${name(map.query, map.axes.query, map.qt[q])} looks at ${name(map.key, map.axes.key, map.kt[k])}: ${num(map.at(q, k))}` };
    }
    if (inside("sound", py) && data.wave) {
      if (get("sound") === "spectrogram" && data.spectrum) return { t, text: `${sec(t)}, ${(((rows.sound[0] + rows.sound[1] - py) / rows.sound[1]) * data.spectrum.top / 1000).toFixed(1)} kHz` };
      const i = Math.floor(t / data.wave.every), p = (Math.max(Math.abs(data.wave.low[i] ?? 0), Math.abs(data.wave.high[i] ?? 0)) / 127) * data.wave.peak;
      return { t, text: `${sec(t)}, peak ${p > 0 ? `${(20 * Math.log10(p)).toFixed(0)} dB` : "silent"}` };
    }
    if (inside("words", py)) { const f = data.words?.find(([, a, b]) => t >= a && t < b); return { t, text: f ? `“${f[0]}”, ${sec(f[1])} to ${sec(f[2])}` : sec(t) }; }
    if (inside("label", py)) { const f = data.label?.find(([a, b]) => t >= a && t < b); return { t, text: f ? `${f[2]}, ${sec(f[0])} to ${sec(f[1])}` : sec(t) }; }
    if (inside("curve", py) && data.curve?.time.length) {
      const c = data.curve, n = c.classes.length, i = nearest(c.time, t, Infinity);
      let best = 0;
      for (let k = 1; k < n; k++) if (Math.abs(curveY(c.values[i * n + k]) - py) < Math.abs(curveY(c.values[i * n + best]) - py)) best = k;
      return { t, text: `${c.classes[best]} ${c.values[i * n + best].toFixed(2)} at ${sec(c.time[i])}` };
    }
    return { t, text: sec(t) };
  }

  function point() { // say what lies under the pointer now, whether it moved or the rows did
    hover = drag?.moved ? { text: `${drag.span[0].toFixed(2)} to ${drag.span[1].toFixed(2)} s` } : pointer && told(...pointer);
    tip.style.display = hover?.text ? "block" : "none";
    if (!hover?.text) return;
    tip.textContent = hover.text;
    tip.style.left = `${clamp(pointer[0] + 14, 0, Math.max(0, size.w - tip.offsetWidth - 2))}px`;
    tip.style.top = `${clamp(pointer[1] - 32, 0, size.h - 24)}px`;
  }

  // pointer: a click seeks; a drag on a row selects; a drag on the axis moves the playhead
  const where = (e) => { const b = stage.getBoundingClientRect(); return [e.clientX - b.left, e.clientY - b.top]; };
  const seekable = (px, py) => px >= LEFT - 6 && px <= size.w - right() + 6 && !(inside("map", py) && map && map.axes.key !== "time");
  stage.addEventListener("pointerdown", (e) => {
    const [px, py] = where(e);
    if (e.button || !seekable(px, py)) return;
    root.focus({ preventScroll: true });
    stage.setPointerCapture(e.pointerId);
    drag = { from: px, moved: false, scrub: py >= rows.axis[0] - 2, span: null };
    if (drag.scrub) seek(time(px));
  });
  stage.addEventListener("pointermove", (e) => {
    const [px, py] = pointer = where(e);
    if (drag?.scrub) seek(time(px), false);
    else if (drag && (drag.moved ||= Math.abs(px - drag.from) > 4)) { const a = time(drag.from), b = time(px); drag.span = [Math.min(a, b), Math.max(a, b)]; }
    point();
    stage.style.cursor = seekable(px, py) ? (py >= rows.axis[0] - 2 ? "ew-resize" : "crosshair") : "default";
    paint();
  });
  stage.addEventListener("pointerup", (e) => {
    if (!drag) return;
    const [px] = where(e), d = drag;
    drag = null;
    if (d.scrub) seek(time(px));
    else if (d.moved && d.span[1] - d.span[0] > 1e-3) { put({ selection: d.span.map((v) => Number(v.toFixed(4))) }); labels(); paint(); }
    else seek(time(px));
  });
  stage.addEventListener("pointercancel", () => { drag = null; paint(); });
  stage.addEventListener("pointerleave", () => { pointer = null; point(); paint(); });
  stage.addEventListener("dblclick", () => { put({ selection: [] }); labels(); paint(); });
  video.addEventListener("click", () => { root.focus({ preventScroll: true }); toggle(); });
  video.addEventListener("loadedmetadata", () => { if (Math.abs(video.currentTime - now) > 1e-3) video.currentTime = now; if (get("playing")) play(true); });
  video.addEventListener("seeked", paint);

  // keys
  const toggle = () => { put({ playing: !get("playing") }); play(get("playing")); };
  const step = (n) => { if (get("playing")) toggle(); const fps = data.fps || 25; seek((Math.floor(now * fps + 1e-3) + n + 0.5) / fps); };
  root.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.tagName === "SELECT") return;
    if (e.key === " " && e.target.tagName === "BUTTON") return;
    const act = { " ": toggle, ArrowLeft: () => seek(now - 0.1), ArrowRight: () => seek(now + 0.1), ",": () => step(-1), ".": () => step(1), Home: () => seek(0), End: () => seek(end()), Escape: () => { put({ selection: [] }); labels(); paint(); } }[e.key];
    if (!act) return;
    e.preventDefault(); e.stopPropagation();
    act();
  });

  // controls
  const button = (text, tip, act, to = controls, cls = "") => { const b = make("button", cls, to, text); b.type = "button"; b.title = tip; b.addEventListener("click", act); return b; };
  const go = button("Play", "play or pause (space)", () => toggle(), controls, "mm-go");
  const speeds = make("span", "mm-set", controls), rates = [0.25, 0.5, 1].map((v) => { const b = button(`${v}×`, `play at ${v} of the speed`, () => { put({ speed: v }); video.playbackRate = v; began = began && { at: performance.now(), from: now }; labels(); }, speeds); b.dataset.rate = v; return b; });
  const loop = button("Loop selection", "play the selected interval again and again", () => { put({ loop: !get("loop") }); labels(); });
  const steps = make("span", "mm-set", controls);
  button("‹ Step", "one frame back (,)", () => step(-1), steps); button("Step ›", "one frame on (.)", () => step(1), steps);
  const zoom = button("Zoom to selection", "show the selected interval only", () => { const s = get("span")?.length === 2 ? [] : chosen() ?? []; put({ span: s }); labels(); drawStill(); });
  const clock = make("span", "mm-clock", controls);
  function labels() {
    go.textContent = get("playing") ? "Pause" : "Play";
    for (const b of rates) b.setAttribute("aria-pressed", String(Number(b.dataset.rate) === get("speed")));
    loop.setAttribute("aria-pressed", String(Boolean(get("loop"))));
    loop.textContent = chosen() ? "Loop selection" : "Loop clip";
    const near = get("span")?.length === 2;
    zoom.textContent = near ? "Show the whole clip" : "Zoom to selection";
    zoom.disabled = !near && !chosen();
  }
  const pick = (to, label, options, key) => {
    if (!options?.length) return;
    const box = make("label", "", to), s = make("select", "", box);
    if (label) box.prepend(`${label} `);
    box.className = "mm-soft";
    s.setAttribute("aria-label", label || key);
    s.dataset.of = key;
    for (const [text, value] of options) { const o = make("option", "", s, text); o.value = JSON.stringify(value); }
    s.value = JSON.stringify(get(key));
    s.disabled = options.length < 2;
    s.addEventListener("change", () => { put({ [key]: JSON.parse(s.value) }); if (key === "sound") drawStill(); });
  };
  function header() {
    facts.replaceChildren();
    pick(facts, "clip", get("clips"), "clip_id");
    for (const [name, value, how] of get("facts") ?? []) {
      if (name === "clip" && get("clips")?.length) continue;
      const s = make("span", "", facts, `${name} `.trimStart());
      const b = make("b", how === "wrong" ? "mm-wrong" : "", s);
      const colour = data.colours?.[String(value).split(" ")[0]];
      if (colour) make("i", "mm-chip", b).style.background = colour;
      b.append(value);
      if (how === "wrong") b.title = "the prediction is not the label";
    }
    choose.replaceChildren();
    const o = get("options") ?? {};
    pick(choose, "map", o.show, "show");
    const known = get("map")?.choices ?? {}, worth = get("map")?.worth;
    if (get("show") === "attention") for (const [label, key] of [["direction", "query"], ["layer", "layer"], ["head", "head"]]) pick(choose, label, known[key] ?? o[key], key);
    pick(choose, "sound", data.wave && data.spectrum ? [["waveform", "waveform"], ["spectrogram", "spectrogram"]] : [], "sound");
    make("span", "mm-soft", choose, get("map")?.note ?? "");
    if (worth) make("div", "mm-worth", choose, worth);
  }

  const all = () => { read(); header(); labels(); layout(); };
  const heard = {
    "change:rows": all, "change:map": all, "change:facts": header, "change:clips": header, "change:options": header,
    "change:media": () => { said = ""; film.load(get("media") ?? {}); layout(); },
    "change:time": () => { if (!mine && Math.abs(get("time") - now) > 1e-6) seek(get("time"), false); },
    "change:playing": () => { if (!mine) play(get("playing")); },
    "change:speed": () => { video.playbackRate = get("speed") || 1; labels(); },
    "change:loop": labels, "change:selection": () => { labels(); paint(); }, "change:span": () => { labels(); drawStill(); },
    "change:sound": () => { header(); point(); drawStill(); }, "change:clip_id": header, "change:show": header, "change:query": header, "change:layer": header, "change:head": header,
  };
  for (const [k, f] of Object.entries(heard)) model.on(k, f);
  const message = (m, buffers) => { if (m.kind === "piece" || m.kind === "no-film") film.take(m, buffers?.[0]); };
  model.on("msg:custom", message);
  const widths = new ResizeObserver(() => { if (Math.abs(root.clientWidth - 22 - (size.w + 6 + side.offsetWidth)) > 1) layout(); });
  widths.observe(root);
  const watch = new MutationObserver(() => setTimeout(layout, 60));
  watch.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", layout);
  read();
  film.load(get("media") ?? {});
  all();
  if (get("playing")) play(true);
  return () => {
    dead = true;
    cancelAnimationFrame(frame);
    widths.disconnect(); watch.disconnect(); scheme.removeEventListener("change", layout);
    for (const [k, f] of Object.entries(heard)) model.off(k, f);
    model.off("msg:custom", message);
    film.drop();
  };
}

export default { render };
