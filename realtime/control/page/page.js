// The control page: shows states and previews that come over one WebSocket, and sends commands. See ../server.py.
const $ = (id) => document.getElementById(id);
const PHASES = {
  running: "Live", covered: "No swap", veiled: "Veiled", standby: "Stopped", ended: "Ended", away: "Not connected",
};
const RUNTIMES = {
  openvino: "OpenVINO", onnxruntime: "ONNX Runtime", tensorrt: "TensorRT", "tensorrt-rtx": "TensorRT for RTX",
};
const SLIDERS = [
  { knob: "strength", name: "Expression strength", show: percent, step: 0.05,
    hint: "How far the persona's expression goes; your face never shows through" },
  { knob: "morph", name: "Morph", show: percent, step: 0.01, hint: "How much of the persona; less shows more of your own face" },
  { knob: "colour_strength", name: "Colour match", show: percent, step: 0.05, hint: "How far its colours follow your light" },
  { knob: "sharpen", name: "Sharpen", show: percent, step: 0.05 },
  { knob: "feather", name: "Mask feather", show: pixels, step: 1 },
  { knob: "erode", name: "Mask offset", show: pixels, step: 1, flip: true, hint: "Plus: outward, minus: inward" },
  { knob: "smoothing", name: "Smoothing", show: percent, step: 0.05 },
];
const SEND_EVERY_MS = 60;
const FIGURES_EVERY_MS = 450; // calmer to read than every state, and half the work
const SMALL_PX = 420; // up to so many pixels on the screen a picture of half the size is as sharp
let socket = null;
let state = null;
let began = null; // the knobs of the first state
let gallery = [];
let view = "after"; // or "split"
let previewOn = true;
let lastPicture = null;
let asked = 0; // when the preview was last asked for; 0: not at the moment
let toastTimer = 0;
let figuresAt = 0; // when they were written
const barred = new Set(); // ids of controls that can do nothing now

function percent(value) { return `${Math.round(100 * value)} %`; }
function pixels(value) { return `${value > 0 ? "+" : ""}${Math.round(value)} px`; }
function short(value) { return value < 10 ? value.toFixed(1) : String(Math.round(value)); }
function ms(value) { return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`; }
// Only what changed is written: a page that is written to anew with each state costs the stream's processor.
function setText(element, text) { if (element.textContent !== text) element.textContent = text; }
function setAttribute(element, name, text) { if (element.getAttribute(name) !== text) element.setAttribute(name, text); }
function setValue(input, value) { if (input.value !== String(value)) input.value = value; }
function setChecked(input, on) { if (input.checked !== on) input.checked = on; }
function setDisabled(element, off) { if (element.disabled !== off) element.disabled = off; }
function setWidth(element, percentage) {
  const text = `${Math.round(percentage)}%`;
  if (element.style.width !== text) element.style.width = text;
}
function press(element, on) { setAttribute(element, "aria-pressed", String(on)); }
function bar(id, off) { if (off) barred.add(id); else barred.delete(id); }

// ---- connection ----------------------------------------------------------------------------------------------------

function connect() {
  const address = new URL("live", location.href);
  address.protocol = "ws:";
  socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => {
    asked = 0;
    began = null; // perhaps it is another run
    askPreview();
  };
  socket.onmessage = (message) => {
    if (typeof message.data !== "string") { showPicture(message.data); return; }
    const said = JSON.parse(message.data);
    if (said.hello) greet(said.hello);
    if (said.state) show(said.state);
    if (said.error) toast(said.error);
  };
  socket.onclose = () => {
    const ended = state !== null && state.phase === "ended";
    showPhase(ended ? "ended" : "away");
    enable(false);
    setTimeout(connect, document.hidden ? 5000 : 1500);
  };
}

function send(command) {
  if (socket !== null && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(command));
}

// ---- preview -------------------------------------------------------------------------------------------------------

function askPreview() {
  if (!previewOn || document.hidden || asked || socket === null || socket.readyState !== WebSocket.OPEN) return;
  asked = performance.now();
  const narrow = $("picture").clientWidth * devicePixelRatio <= SMALL_PX;
  socket.send(narrow ? `${view} small` : view);
}

async function showPicture(data) {
  asked = 0;
  const head = new DataView(data);
  const split = head.getUint8(0) === 1;
  try {
    const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 6)], { type: "image/jpeg" }));
    if (lastPicture !== null) lastPicture.bitmap.close();
    lastPicture = { bitmap, split, index: head.getUint32(2) };
    draw();
  } catch { /* a picture that cannot be decoded: the next one comes */ }
  requestAnimationFrame(askPreview);
}

function draw() {
  const canvas = $("picture");
  if (lastPicture === null || !previewOn) return;
  const { bitmap, split } = lastPicture;
  const width = split ? bitmap.width / 2 : bitmap.width;
  if (canvas.width !== width || canvas.height !== bitmap.height) {
    canvas.width = width;
    canvas.height = bitmap.height;
  }
  const context = canvas.getContext("2d", { alpha: false });
  context.drawImage(bitmap, split ? width : 0, 0, width, bitmap.height, 0, 0, width, bitmap.height);
  if (split) {
    const at = Math.round(width * $("split-at").value / 100);
    if (at > 0) context.drawImage(bitmap, 0, 0, at, bitmap.height, 0, 0, at, bitmap.height);
    context.fillStyle = "#fff";
    context.fillRect(at - 1, 0, 2, bitmap.height);
  }
  if (!$("nothing").hidden) $("nothing").hidden = true;
  canvas.dataset.index = lastPicture.index;
}

function choosePreview() {
  const split = view === "split" && previewOn;
  press($("view-on"), previewOn);
  press($("view-split"), view === "split");
  $("view-split").disabled = !previewOn;
  $("split-at").hidden = $("tags").hidden = !split;
  if (previewOn) { askPreview(); return; }
  const canvas = $("picture");
  canvas.getContext("2d", { alpha: false }).clearRect(0, 0, canvas.width, canvas.height);
  setText($("nothing"), "The preview is off.");
  $("nothing").hidden = false;
}

// ---- what is shown -------------------------------------------------------------------------------------------------

function greet(hello) {
  gallery = hello.gallery;
  const box = $("gallery");
  box.replaceChildren(...gallery.map((card) => {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.name = card.name;
    button.title = card.title;
    const picture = document.createElement(card.picture ? "img" : "span");
    if (card.picture) {
      picture.src = `persona/${encodeURIComponent(card.name)}`;
      picture.alt = "";
      picture.loading = "lazy";
    } else {
      picture.className = "noface";
      picture.textContent = card.name[0].toUpperCase();
    }
    const name = document.createElement("span");
    name.textContent = card.name;
    button.append(picture, name);
    if (card.kind === "person") button.append(Object.assign(document.createElement("small"), { textContent: "consent" }));
    button.setAttribute("aria-label", `${card.name}: ${card.title}`);
    const prepare = () => {
      if (card.kind === "invented" && state?.persona?.name !== card.name) send({ do: "prepare", name: card.name });
    };
    button.addEventListener("pointerenter", prepare);
    button.addEventListener("focus", prepare);
    button.addEventListener("click", () => { button.setAttribute("aria-busy", "true"); send({ do: "persona", name: card.name }); });
    return button;
  }));
  for (const slider of SLIDERS) limit(slider, hello.knobs[slider.knob]);
  if (state !== null) showPersona(state);
}

function limit(slider, limits) {
  const input = $(slider.knob);
  if (!limits) return;
  input.min = slider.flip ? -limits.high : limits.low;
  input.max = slider.flip ? -limits.low : limits.high;
}

function show(next) {
  const first = state === null;
  state = next;
  if (began === null) began = { ...next.knobs };
  if (document.hidden && !first) return; // drawn when somebody looks again
  showPhase(next.phase === "running" && next.covered_now !== null ? "covered" : next.phase);
  const veiled = next.phase === "veiled";
  press($("veil"), veiled);
  setText($("veil").firstElementChild, veiled ? "Veiled" : "Veil now");
  setText($("veil").lastElementChild, veiled ? "Press to show the persona again. Key V" : "Blurs the whole picture at once. Key V");
  press($("standby"), next.phase === "standby");
  setText($("standby"), next.phase === "standby" ? "Start" : "Stop");
  showFigures(next);
  showPersona(next);
  showKnobs(next);
  showRecording(next);
  enable(next.phase !== "ended");
  const warnings = $("warnings");
  if ([...warnings.children].map((item) => item.textContent).join("|") !== next.warnings.join("|")) {
    warnings.replaceChildren(...next.warnings.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }
  const log = $("log");
  const newest = next.log.length ? next.log[next.log.length - 1][0] : 0;
  if (log.dataset.newest !== String(newest)) {
    log.dataset.newest = newest;
    log.replaceChildren(...next.log.map(([, text]) => Object.assign(document.createElement("li"), { textContent: text })));
  }
  setText($("source"), `From ${next.source} to ${next.sink}.`);
  setText($("size"), next.size[0] ? `${next.size[0]} × ${next.size[1]}` : "");
  if (next.error !== null) toast(next.error);
  else if (!$("toast").hidden && $("toast").dataset.from === "state") $("toast").hidden = true;
  question(next.confirm);
  if (first) askPreview();
}

function showPhase(phase) {
  const pill = $("phase");
  setAttribute(pill, "data-phase", phase);
  setText(pill, PHASES[phase]);
}

function enable(on) {
  for (const element of document.querySelectorAll("main button, main select, main input")) {
    if (!["view-on", "view-split", "split-at"].includes(element.id)) setDisabled(element, !on || barred.has(element.id));
  }
}

function showFigures(next) {
  const now = performance.now();
  if (now - figuresAt < FIGURES_EVERY_MS && next.phase !== "ended") return;
  figuresAt = now;
  setText($("fps"), next.fps.toFixed(1));
  setText($("rate"), next.fps > 0 ? `${next.fps.toFixed(1)} fps` : "");
  setText($("p50"), ms(next.latency.p50));
  setText($("p99"), ms(next.latency.p99));
  const all = next.frames.sent + next.frames.dropped;
  const share = all ? 100 * next.frames.dropped / all : 0;
  setText($("dropped"), String(next.frames.dropped));
  setText($("dropped-share"), share < 0.05 ? "" : `${share.toFixed(1)} %`);
  const body = $("stages").tBodies[0];
  const most = Math.max(1, ...next.stages.map((stage) => stage.p99));
  for (const stage of next.stages) {
    let row = body.querySelector(`[data-stage="${CSS.escape(stage.stage)}"]`);
    if (row === null) {
      row = body.insertRow();
      row.dataset.stage = stage.stage;
      row.append(Object.assign(document.createElement("th"), { scope: "row", textContent: stage.stage }));
      const bar = Object.assign(document.createElement("div"), { className: "bar" });
      bar.append(document.createElement("i"), document.createElement("b"));
      row.insertCell().append(bar);
      row.insertCell();
      row.insertCell();
    }
    const bar = row.cells[1].firstElementChild;
    setWidth(bar.firstElementChild, 100 * stage.p99 / most);
    setWidth(bar.lastElementChild, 100 * stage.p50 / most);
    setText(row.cells[2], short(stage.p50));
    setText(row.cells[3], short(stage.p99));
  }
  setText($("level"), next.level === null ? "" : `Quality follows the machine: ${next.level}`);
}

function showPersona(next) {
  const worn = next.persona;
  for (const button of $("gallery").children) {
    press(button, worn !== null && button.dataset.name === worn.name);
    const busy = button.dataset.name === next.changing && button.dataset.name !== worn?.name;
    setAttribute(button, "aria-busy", String(busy));
  }
  if (worn === null) return;
  const what = `${worn.title}. Computed by ${RUNTIMES[worn.runtime] ?? worn.runtime}, ${worn.precision}.`;
  setText($("worn"), next.changing === null || next.changing === worn.name ? what : `Putting on ${next.changing} …`);
  const tier = $("tier");
  const tiers = worn.tiers.includes(worn.tier) ? worn.tiers : [worn.tier];
  if (tier.dataset.tiers !== tiers.join()) {
    tier.dataset.tiers = tiers.join();
    tier.replaceChildren(...tiers.map((name) => new Option(name[0].toUpperCase() + name.slice(1), name)));
  }
  if (document.activeElement !== tier) setValue(tier, worn.tier);
  bar("tier", tiers.length < 2);
  bar("next", gallery.length < 2);
}

function showKnobs(next) {
  for (const slider of SLIDERS) {
    const input = $(slider.knob);
    const missing = next.knobs[slider.knob] === null; // the persona has no such thing
    if (input.parentElement.hidden !== missing) input.parentElement.hidden = missing;
    if (missing) continue;
    const value = slider.flip ? -next.knobs[slider.knob] : next.knobs[slider.knob];
    if (slider.sent === value) slider.free();
    if (!input.dataset.held && Number(input.value) !== value) setValue(input, value);
    if (!input.dataset.held) slider.said(input);
    const why = next.knobs_fixed[slider.knob] ?? "";
    bar(slider.knob, why !== "");
    setText(input.parentElement.querySelector(".why"), why || slider.hint || "");
  }
  if (document.activeElement !== $("label_position")) setValue($("label_position"), next.knobs.label_position);
  bar("label_position", "label_position" in next.knobs_fixed);
  setChecked($("mirror"), next.knobs.mirror);
  if (document.activeElement !== $("policy")) setValue($("policy"), next.policy);
  const auto = next.knobs.mic_delay_ms === null;
  setChecked($("mic-auto"), auto);
  bar("mic", auto);
  if (document.activeElement !== $("mic")) setValue($("mic"), Math.round(auto ? next.latency.p50 : next.knobs.mic_delay_ms));
}

function showRecording(next) {
  const now = next.recording;
  const button = $("record");
  press(button, now.phase === "recording");
  bar("record", !now.available || now.phase === "finishing");
  const time = `${Math.floor(now.seconds / 60)}:${String(Math.floor(now.seconds % 60)).padStart(2, "0")}`;
  setText(button, now.phase === "recording" ? `Stop ${time}` : now.phase === "finishing" ? "Finishing …" : "Record");
  let text = "Nothing is recorded.";
  if (!now.available) text = "This run has no recorder; add a file with -o FILE.mp4.";
  else if (now.phase === "recording") text = `Recording to ${now.path}. Sound: ${now.microphone ?? "none"}.`;
  else if (now.message) text = now.message;
  else if (now.path) text = `Recorded: ${now.path}`;
  setText($("recording"), text);
}

function toast(text) {
  const box = $("toast");
  setText(box, text);
  box.dataset.from = "state";
  box.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { box.hidden = true; }, 8000);
}

// ---- questions -----------------------------------------------------------------------------------------------------

let answer = null;

function question(asked) {
  const box = $("ask");
  if (asked !== null && (!box.open || box.dataset.number !== String(asked.number))) {
    box.dataset.number = asked.number;
    ask(asked.text, (yes) => send({ do: "confirm", number: asked.number, yes }));
  } else if (asked === null && box.open && box.dataset.number !== "own") {
    answer = null;
    box.close();
  }
}

function ask(text, then) {
  setText($("ask-text"), text);
  answer = then;
  if (!$("ask").open) $("ask").showModal();
}

function answered(yes) {
  const then = answer;
  answer = null;
  $("ask").close();
  if (then !== null) then(yes);
}

// ---- controls ------------------------------------------------------------------------------------------------------

for (const slider of SLIDERS) {
  const box = Object.assign(document.createElement("div"), { className: "slider", hidden: slider.knob === "morph" });
  const name = Object.assign(document.createElement("label"), { htmlFor: slider.knob, textContent: slider.name });
  const output = document.createElement("output");
  output.htmlFor = slider.knob;
  const input = Object.assign(document.createElement("input"), { type: "range", id: slider.knob, min: -100, max: 100, step: slider.step });
  const why = Object.assign(document.createElement("span"), { className: "quiet why", id: `${slider.knob}-why` });
  input.setAttribute("aria-describedby", why.id);
  box.append(name, output, input, why);
  $("sliders").append(box);
  slider.said = (from) => {
    const text = slider.show(Number(from.value));
    setText(output, text);
    setAttribute(from, "aria-valuetext", text);
  };
  let waiting = 0;
  let release = 0;
  slider.free = () => { delete input.dataset.held; slider.sent = null; };
  const sendValue = () => {
    waiting = 0;
    const value = Number(input.value);
    slider.sent = value;
    send({ do: "adjust", changes: { [slider.knob]: slider.flip ? -value : value } });
  };
  input.addEventListener("input", () => {
    input.dataset.held = "1"; // older states must not move it back
    slider.sent = null;
    slider.said(input);
    clearTimeout(release);
    release = setTimeout(slider.free, 4000); // refused: it goes back
    if (!waiting) waiting = setTimeout(sendValue, SEND_EVERY_MS);
  });
}

$("veil").addEventListener("click", () => send({ do: "veil", on: state?.phase !== "veiled" }));
$("standby").addEventListener("click", () => send({ do: "standby", on: state?.phase !== "standby" }));
$("record").addEventListener("click", () => send({ do: "record", on: state?.recording.phase !== "recording" }));
$("next").addEventListener("click", () => send({ do: "persona" }));
$("tier").addEventListener("change", (event) => send({ do: "tier", tier: event.target.value }));
$("runtime").addEventListener("change", (event) => send({ do: "runtime", runtime: event.target.value }));
$("policy").addEventListener("change", (event) => {
  send({ do: "policy", policy: event.target.value });
  event.target.blur();
});
$("label_position").addEventListener("change", (event) => {
  send({ do: "adjust", changes: { label_position: event.target.value } });
});
$("mirror").addEventListener("change", (event) => send({ do: "adjust", changes: { mirror: event.target.checked } }));
$("mic-auto").addEventListener("change", (event) => {
  send({ do: "adjust", changes: { mic_delay_ms: event.target.checked ? null : Math.round(state?.latency.p50 ?? 0) } });
});
$("mic").addEventListener("change", (event) => {
  if (event.target.checkValidity()) send({ do: "adjust", changes: { mic_delay_ms: Number(event.target.value) } });
});
$("reset").addEventListener("click", () => {
  if (began === null) return;
  const changes = { ...began };
  if (began.morph === null || state?.knobs.morph === null) delete changes.morph; // of another persona
  send({ do: "adjust", changes });
});
$("end").addEventListener("click", () => {
  $("ask").dataset.number = "own";
  ask("End the run? The virtual camera goes dark and recordings are finished.", (yes) => { if (yes) send({ do: "end" }); });
});
$("ask-yes").addEventListener("click", () => answered(true));
$("ask-no").addEventListener("click", () => answered(false));
$("ask").addEventListener("cancel", (event) => { event.preventDefault(); answered(false); });
$("view-on").addEventListener("click", () => { previewOn = !previewOn; choosePreview(); });
$("view-split").addEventListener("click", () => { view = view === "split" ? "after" : "split"; choosePreview(); });
$("split-at").addEventListener("input", draw);
document.addEventListener("visibilitychange", () => {
  asked = 0;
  askPreview();
  if (!document.hidden && state !== null && socket?.readyState === WebSocket.OPEN) show(state);
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat || $("ask").open) return;
  if (event.target.closest("select, input[type=number]")) return;
  const button = { v: "veil", n: "next", r: "record" }[event.key.toLowerCase()];
  if (button !== undefined && !$(button).disabled) $(button).click();
});

enable(false);
connect();
