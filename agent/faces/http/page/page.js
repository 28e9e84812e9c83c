// The page of one device. It asks the agent's API, shows the answers, and asks again when an event tells of a change.
// Text from the device only ever becomes text (`textContent`): no string is parsed as markup anywhere.

const API = "api/v1";
const AGAIN_MS = 3000; // between two tries to reach an agent that does not answer
const PULSE_MS = 15_000; // between two looks when nothing happens: a cut cable tells nobody
const BLOB_BYTES = 64 << 20; // a larger file goes straight to the disk, past this page

// What the page knows, as the API answered last.
const known = {
  status: null, health: null, schedule: null, places: [], failure: null,
  asked: null, // the id of the preview that this page has asked for
  finalized: null, // the id of the preview that became a restore
  jobs: null, // those that have ended, newest first
  olderJobs: null, // where the next page of them begins
  watched: null, // the id of the job that ran at the last look
  result: null, // how it ended, until somebody closes it
  dismissed: null, // the failed preview that somebody closed
};

// ---- Elements

const $ = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Set a text, and only when it differs: a live region reads every change aloud. */
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Say how a part stands; with an error when it could not be read. */
function say(node, text, error = null) {
  node.classList.toggle("bad", error !== null);
  put(node, error?.message ?? text);
}

function show(node, visible) {
  node.hidden = !visible;
}

function button(text, about, press, kind = "") {
  const made = make("button", { type: "button", class: kind }, text);
  if (about) made.append(make("span", { class: "unseen" }, ` ${about}`));
  onPress(made, press);
  return made;
}

/** Make a list that of `items`; nodes of known keys stay, and with them focus and open details. */
function sync(list, items, keyOf, makeNode, update = () => {}) {
  const old = new Map([...list.children].map((node) => [node.dataset.key, node]));
  let place = list.firstChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const node = old.get(key) ?? makeNode(item);
    old.delete(key);
    node.dataset.key = key;
    update(node, item);
    if (node === place) place = place.nextSibling;
    else list.insertBefore(node, place);
  }
  for (const node of old.values()) node.remove();
}

function makeRow(name, about, ...buttons) {
  const texts = [make("strong", {}, name), make("span", {}, about)];
  return make("li", {}, ...texts, make("div", { class: "actions" }, ...buttons));
}

function facts(list, pairs) {
  const shown = pairs.filter(([, text]) => text || text === 0);
  list.replaceChildren(...shown.map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
}

/** Show names, and how many more there are. */
function names(list, items, more = 0) {
  const shown = more > 0 ? [...items, `and ${more} more`] : items;
  sync(list, shown, (item) => item, (item) => make("li", {}, item));
}

function announce(text) {
  put($("announcer"), text);
}

// ---- Words

const nameOf = ({ kind }) => (kind === "verify" ? "Verification" : capital(kind));
const sizeOf = (bytes) => (typeof bytes === "number" ? size(bytes) : "");
const count = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; bytes >= 1024 && unit < units.length - 1; unit += 1) bytes /= 1024;
  return `${bytes.toLocaleString("en", { maximumFractionDigits: unit && bytes < 100 ? 1 : 0 })} ${units[unit]}`;
}

/** The two largest units of a time. */
function duration(seconds) {
  const whole = Math.round(seconds);
  const parts = [[Math.floor(whole / 86400), "d"], [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  const first = parts.findIndex(([number]) => number);
  if (first < 0) return "less than a second";
  const shown = parts.slice(first, first + 2).filter(([number]) => number);
  return shown.map(([number, unit]) => `${number} ${unit}`).join(" ");
}

/** A time of the API as people say it; "" for the time that does not exist. */
function when(text) {
  if (!text || text.startsWith("0001-")) return "";
  const moment = new Date(text);
  const clock = moment.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  const days = Math.round((midnight(moment) - midnight(new Date())) / 86400e3);
  const day = { 0: "today", "-1": "yesterday", 1: "tomorrow" }[days]
    ?? moment.toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });
  return `${day} at ${clock}`;
}

const midnight = (moment) => new Date(moment.getFullYear(), moment.getMonth(), moment.getDate());

function ago(text) {
  const seconds = (Date.now() - new Date(text)) / 1000;
  return seconds < 60 ? "just now" : `${duration(seconds)} ago`;
}

const PHASES = {
  starting: "Starting", collecting: "Collecting the files", comparing: "Comparing", archiving: "Archiving",
  uploading: "Sending the archive", fetching: "Fetching the archive", checking: "Checking the archive",
  unpacking: "Unpacking beside the data", delivering: "Handing the files over",
  committing: "Putting the files in place",
};
const HELP = {
  "access-denied": "The destination needs new credentials.",
  "archive-invalid": "Use another archive.",
  corrupted: "Check the destination and the network.",
  "foreign-archive": "Use an archive of this device, or accept one of another device.",
  "io-error": "Check the disk or the stick.",
  "no-space": "Make room, or remove old archives, and try again.",
  "not-confirmed": "The old data is back. Restore again, and confirm in time.",
  interrupted: "Try again.",
  "target-absent": "Plug it in and try again.",
  unreachable: "Check the network and try again.",
  "wrong-key": "Use the right passcode or key.",
  busy: "Another job was running at that time.",
};

// ---- The API

/** A request that was not carried out; the message is for the person. */
class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function send(method, address, body) {
  const options = { method };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  const answer = await fetch(address, options).catch(() => {
    throw new Refusal(0, "The agent does not answer. Is it running?");
  });
  if (answer.ok) return answer;
  if (answer.status === 401) signedOut();
  throw new Refusal(answer.status, await problemOf(answer));
}

async function problemOf(answer) {
  const problem = await answer.json().catch(() => ({}));
  return capital(problem.detail || problem.title || `The agent answered ${answer.status}.`);
}

const get = async (path) => (await send("GET", `${API}/${path}`)).json();
const post = (path, body = {}) => send("POST", `${API}/${path}`, body);
const getJob = (id) => get(`jobs/${segments(id)}`);
const segments = (...parts) => parts.map(encodeURIComponent).join("/");

const filled = (values) => Object.fromEntries(Object.entries(values).filter(([, value]) => value || value === false));

function query(path, values) {
  const search = new URLSearchParams(filled(values)).toString();
  return search ? `${path}?${search}` : path;
}

// ---- Buttons: a refusal appears where the button was pressed

function onPress(node, work) {
  node.addEventListener("click", () => act(node, work));
}

function onSubmit(form, work) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.submitter ?? form.querySelector("button"), () => work(new FormData(form)));
  });
}

async function act(pressed, work) {
  if (pressed.getAttribute("aria-disabled") === "true") return;
  const place = pressed.closest(".actions") ?? pressed;
  place.querySelector(".refusal")?.remove();
  pressed.setAttribute("aria-disabled", "true"); // not `disabled`, which would lose the focus
  try {
    await work();
  } catch (error) {
    if (!(error instanceof Refusal)) console.error(error);
    place.append(make("p", { class: "refusal", role: "alert" }, error.message));
  } finally {
    pressed.removeAttribute("aria-disabled");
  }
}

// ---- Signing in

function signedOut() {
  live.close();
  $("archive").close();
  if (!$("sign-in").hidden) return;
  const expired = !$("device-view").hidden;
  show($("device-view"), false);
  show($("sign-out"), false);
  show($("sign-in"), true);
  show($("sign-in-why"), expired);
  put($("sign-in-why"), expired ? "Your session has ended. Sign in again." : "");
  put($("link"), "Not signed in");
  $("sign-in-form").elements.token.focus();
}

async function signIn(form) {
  await send("POST", "session", { token: form.get("token") });
  $("sign-in-form").reset();
  show($("sign-in"), false);
  await begin().catch((error) => {
    throw error.status === 401 ? new Refusal(401, "Allow cookies for this address.") : error;
  });
  $("main").focus();
}

async function signOut() {
  await send("DELETE", "session");
  show($("device-view"), false);
  signedOut();
}

// ---- Events: EventSource continues after a break with the last event's id; the page reads everything anew

const EVENTS = ["jobStarted", "jobProgressed", "jobEnded", "uploadRequested", "uploadChanged", "scheduleChanged",
  "archiveRemoved", "reset"];

const live = {
  source: null,
  timer: null,

  open() {
    this.close();
    this.source = new EventSource(`${API}/events`);
    this.source.onopen = () => look();
    this.source.onerror = () => this.broke();
    for (const name of EVENTS) this.source.addEventListener(name, () => look(name === "jobProgressed"));
  },

  close() {
    this.source?.close();
    clearTimeout(this.timer);
    this.source = null;
  },

  /** The browser tries again by itself, unless the agent refused: it serves few streams at a time. */
  broke() {
    if (this.source.readyState !== EventSource.CLOSED) return lost();
    this.timer = setTimeout(() => this.open(), AGAIN_MS);
    look();
  },
};

function lost(refusal) {
  document.body.classList.add("lost");
  put($("link"), refusal?.status ? refusal.message : "The agent does not answer. Trying again…");
}

function found() {
  document.body.classList.remove("lost");
  put($("link"), "Connected");
}

// ---- Reading the state: one look at a time, so that no answer comes after a newer one

let current = Promise.resolve(); // the look that goes on
let queued = null; // the next one, for everything that happens meanwhile
let queuedIsSmall = true;

/** Read the state anew, and return when that is done; `small` when only the progress of a job has changed. */
function look(small = false) {
  queuedIsSmall &&= small;
  queued ??= current.then(() => {
    current = readState(queuedIsSmall);
    [queued, queuedIsSmall] = [null, true];
    return current;
  });
  return queued;
}

const lookAgain = () => live.source && look();

async function readState(small) {
  try {
    await (small ? readStatus() : refresh());
    found();
  } catch (error) {
    if (error.status === 401) return;
    lost(error);
    setTimeout(lookAgain, AGAIN_MS);
  }
}

async function readStatus() {
  known.status = await get("status");
  await noticeEnd();
  showNow();
  showHealth();
}

/** Read everything, one request after another: the agent has few connections for all its clients. */
async function refresh() {
  known.status = await get("status");
  known.health = await get("health");
  known.schedule = await get("schedule");
  const newer = takeJobs(await get(query("jobs", { limit: 20 })));
  await noticeEnd();
  await readFailure();
  showNow();
  showHealth();
  showSchedule();
  showJobs();
  if (newer) readConsequences();
}

let consequences = Promise.resolve();

/** Read what the end of a job may have changed, after that of an earlier one. */
function readConsequences() {
  for (const read of [readSkipped, readPlaces, readArchives, readUploads]) {
    consequences = consequences.then(() => read()).catch(() => null);
  }
}

/** When the job that was watched has ended, read how. */
async function noticeEnd() {
  const { job } = known.status, { watched } = known;
  if (job && job.id !== watched) announce(`${title(job)} has begun`);
  if (watched && watched !== job?.id) {
    const ended = await getJob(watched).catch(() => null);
    if (ended?.state === "STARTED") return; // it began after the status was read
    known.result = ended?.endTime ? ended : null; // a preview has not ended: it waits
    const preview = known.status.preview?.state === "waiting" ? "The preview is ready" : "The preview failed";
    announce(known.result ? sentenceOf(known.result) : preview);
  }
  known.watched = job?.id ?? null;
}

/** Begin a job, and watch it: it may have ended before the page looks again. */
async function beginJob(operation, options) {
  const job = await (await post("jobs", { operation, options })).json();
  known.watched = job.id;
  return job.id;
}

// ---- Is it well?

function showHealth() {
  const reasons = [...troubles(), ...assurances()];
  const worst = reasons[0]?.level;
  const verdicts = { bad: "The device is not protected", warn: "Something needs attention", good: "All is well" };
  $("health").dataset.level = worst;
  put($("verdict"), verdicts[worst]);
  sync($("reasons"), reasons, (each) => each.text, (each) => make("li", { class: each.level }, each.text));
  document.title = `${verdicts[worst]} – backup`;
}

function troubles() {
  const { health, status, failure } = known, found = [];
  const add = (level, text) => found.push({ level, text });
  const late = health.rpoViolated ? "bad" : "warn";
  if (!when(health.lastSuccess)) add("bad", "There is no good backup yet.");
  else if (health.rpoViolated) add("bad", "The last good backup is older than it may be.");
  if (health.lastError) add(late, failure ? sentenceOf(failure) : refusedSentence(health.lastError));
  if (health.missed) add("warn", `Missed in a row: ${count(health.missed, "periodic backup")}.`);
  if (status.job?.phase === "trial") add("warn", "A restore waits to be confirmed.");
  if (status.problem) add("warn", capital(status.problem));
  return found.sort((one, other) => (other.level === "bad") - (one.level === "bad"));
}

function assurances() {
  const { health, schedule } = known, next = nextBackup(schedule), found = [];
  const add = (text) => found.push({ level: "good", text });
  const ended = when(health.lastSuccess), verified = when(health.lastVerified);
  if (ended) add(`The last good backup ended ${ended}, ${ago(health.lastSuccess)}.`);
  add(next ? `The next one runs ${when(next)}.` : "No further one is scheduled.");
  if (verified) add(`An archive was last found whole ${verified}.`);
  return found;
}

/** When the next backup is due, of the periodic ones and of those by the clock. */
function nextBackup({ next, schedules }) {
  const all = [next, ...Object.values(schedules).map((each) => each.next)];
  return all.filter(Boolean).sort()[0];
}

function refusedSentence(code) {
  return `The last periodic backup could not begin (${code}). ${HELP[code] ?? "The device’s log says why."}`;
}

/** A sentence on how a job ended. */
function sentenceOf(job) {
  const begin = `${nameOf(job)} ${job.state === "FINISHED" ? "finished" : "failed"} ${when(job.endTime)}`;
  const why = job.message || job.statusCode;
  return `${begin}${why ? `: ${why}` : ""}. ${HELP[job.statusCode] ?? ""}`.trim();
}

// ---- Now: the job that runs, the preview that waits, the restore to confirm, the last result

const title = (job) => (job.id === known.asked ? "Preview" : nameOf(job));

function showNow() {
  const { job, preview } = known.status;
  const waiting = !job && preview?.state === "waiting" ? preview : null;
  const over = !job && preview && !waiting && preview.id !== known.dismissed ? preview : null;
  const result = job || waiting ? null : known.result ?? over;
  const trial = job?.phase === "trial";
  show($("now"), Boolean(job || waiting || result));
  show($("running"), Boolean(job) && !trial);
  show($("confirming"), trial);
  show($("preview"), Boolean(waiting));
  show($("result"), Boolean(result));
  showSteps(stepOf(job, waiting));
  if (trial) showConfirming(job);
  else if (job) showRunning(job);
  else if (waiting) showPreview(waiting);
  else if (result) showResult(result);
}

/** Return which step of a restore goes on, 0 for none. */
function stepOf(job, waiting) {
  if (waiting) return 2;
  if (job?.phase === "trial") return 3;
  if (job && job.id === known.asked) return 1;
  return job && job.id === known.finalized ? 2 : 0;
}

function showSteps(step) {
  show($("steps"), step > 0);
  [...$("steps").children].forEach((node, index) => {
    if (index + 1 === step) node.setAttribute("aria-current", "step");
    else node.removeAttribute("aria-current");
  });
}

function showRunning(job) {
  put($("now-title"), `${title(job)} is running`);
  put($("now-what"), `Begun ${when(job.startTime)}`);
  put($("phase"), PHASES[job.phase] ?? capital(job.phase));
  if (job.percent === null) $("progress").removeAttribute("value");
  else $("progress").value = job.percent;
  put($("amount"), amount(job));
  put($("cancel"), `Cancel the ${title(job).toLowerCase()}`);
}

function amount(job) {
  const parts = [];
  if (job.percent !== null) parts.push(`${job.percent} %`);
  if (job.bytes) parts.push(job.totalBytes ? `${size(job.bytes)} of about ${size(job.totalBytes)}` : size(job.bytes));
  if (job.bytesPerSecond) parts.push(`${size(job.bytesPerSecond)} a second`);
  if (job.remainingSeconds) parts.push(`about ${duration(job.remainingSeconds)} left`);
  return parts.join(", ");
}

function showConfirming(job) {
  put($("now-title"), "Restore waits to be confirmed");
  put($("now-what"), "");
  countdown.until(job.remainingSeconds);
}

// The time that is left to confirm. It is shown every second, and read aloud now and then only.
const countdown = {
  ends: 0,
  timer: null,

  until(seconds) {
    if (seconds === null) return;
    this.ends = Date.now() + seconds * 1000;
    this.tick();
  },

  tick() {
    clearTimeout(this.timer);
    const left = Math.max(0, Math.round((this.ends - Date.now()) / 1000));
    put($("countdown"), `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`);
    if ([300, 60, 30, 10].includes(left)) announce(`${duration(left)} left to confirm`);
    if (left && !$("confirming").hidden) this.timer = setTimeout(() => this.tick(), 1000);
  },
};

function showPreview(preview) {
  put($("now-title"), "Restore: look at what would change");
  put($("now-what"), "Nothing has changed yet.");
  const changes = preview.added + preview.changed + preview.removed;
  put($("preview-sentence"), changes
    ? `The restore would change ${count(changes, "file or directory", "files and directories")}.`
    : "The restore would change nothing: the data is as in the archive.");
  facts($("preview-counts"), [["Added", preview.added], ["Changed", preview.changed], ["Removed", preview.removed],
    ["Unchanged", preview.kept], ["To write", size(preview.bytes)]]);
  list($("preview-lost"), preview.lost, preview.removed);
  list($("preview-missing"), preview.unexportable, preview.unexportable.length);
  show($("preview-note"), Boolean(preview.message));
  put($("preview-note"), preview.message ?? "");
  const left = preview.secondsLeft;
  put($("preview-left"), left ? `The agent discards the preview in ${duration(left)}.` : "");
}

/** Show names in a block with a heading; the block is hidden when there is none. */
function list(block, items, total) {
  show(block, items.length > 0);
  names(block.querySelector("ul"), items, total - items.length);
}

function showResult(result) {
  const failed = result.state !== "FINISHED";
  const job = result.code === undefined ? result : { ...result, kind: "preview", statusCode: result.code };
  put($("now-title"), `${nameOf(job)} ${failed ? "failed" : "finished"}`);
  put($("now-what"), when(result.endTime));
  put($("result-sentence"), outcome(job));
  put($("result-help"), HELP[job.statusCode] ?? "");
}

function outcome(job) {
  if (job.state !== "FINISHED") return `${capital(job.message || "no reason is known")} (${job.statusCode})`;
  const parts = [];
  if (job.files !== undefined) parts.push(count(job.files, "file"));
  if (job.archiveBytes !== undefined) parts.push(size(job.archiveBytes));
  if (job.seconds !== undefined) parts.push(duration(job.seconds));
  return [parts.join(", "), job.message].filter(Boolean).join(". ") || "Everything went well.";
}

async function cancel() {
  await post(`jobs/${segments(known.status.job.id)}/cancel`);
  await look();
}

async function finalize(form) {
  const { id } = known.status.preview, within = form.get("within");
  known.finalized = id;
  await post(`jobs/${segments(id)}/finalize`, within ? { confirmWithin: within } : {});
  known.asked = null;
  await look();
  $("now-title").focus();
}

async function discard() {
  await post(`jobs/${segments(known.status.preview.id)}/discard`);
  await look();
  $("restore-title").focus();
}

async function confirmRestore() {
  await post(`jobs/${segments(known.status.job.id)}/confirm`);
  await look();
  $("now-title").focus();
}

function closeResult() {
  known.dismissed = known.status.preview?.id ?? known.dismissed;
  known.result = null;
  showNow();
  $("backup-title").focus();
}

// ---- Stores and targets

async function readPlaces() {
  const { stores, targets } = await get("stores");
  const stateOf = ({ target }) => targets.find((each) => each.name === target) ?? {};
  known.places = [
    ...targets.map((target) => ({ ...target, kind: "target", provider: "local" })),
    ...stores.map((store) => ({ ...stateOf(store), ...store, kind: "store" })),
  ];
  sync($("places-list"), known.places, idOf, makePlace, updatePlace);
  showDestinations();
  const byName = new Set(known.places.map(({ name }) => name)); // a store hides a target of its name
  sync($("store"), [...byName], (name) => name, (name) => make("option", { value: name }, name));
}

const idOf = (place) => `${place.kind} ${place.name}`;

function makePlace() {
  const [presence, about] = ["presence", "about"].map((kind) => make("span", { class: kind }));
  return make("li", { class: "pair" }, make("strong"), presence, about);
}

function updatePlace(node, place) {
  const [name, presence, about] = node.children;
  put(name, place.name);
  put(about, placeWords(place));
  presence.className = place.present === false ? "presence bad" : "presence";
  put(presence, presenceWords(place));
}

function presenceWords({ present, freeBytes, problem, removable }) {
  if (present === undefined) return "Over the network";
  if (!present) return removable ? "Not plugged in" : capital(problem);
  return `${removable ? "Plugged in" : "Present"}, ${size(freeBytes)} free`;
}

function placeWords(place) {
  const about = [place.provider, place.container, place.path].filter(Boolean).join(", ");
  return place.present === false && place.problem ? `${about}: ${place.problem}` : about;
}

async function readUploads() {
  const { uploads } = await get("uploads");
  show($("uploads"), uploads.length > 0);
  sync($("uploads").querySelector("ul"), uploads, (each) => each.id, makeUpload);
}

function makeUpload(upload) {
  return makeRow(upload.archive, size(upload.bytes), button("Give up", upload.archive, async () => {
    await post(`jobs/${segments(upload.id)}/cancel`);
    await readUploads();
  }));
}

// ---- Backing up

function showDestinations() {
  const choices = [...known.places.map((place) => ({
    value: idOf(place), name: place.name, about: presenceWords(place), absent: place.present === false,
  })), { value: "", name: "On the device", about: "until the backend fetches it", absent: false }];
  sync($("destinations"), choices, (each) => each.value, makeChoice("destination"), (node, choice) => {
    put(node.querySelector(".hint"), choice.about);
    node.classList.toggle("absent", choice.absent);
  });
  if (!$("destinations").querySelector(":checked")) preselect(choices);
}

const makeChoice = (name, type = "radio") => ({ value, name: text, about = "" }) => {
  const words = make("span", {}, make("strong", {}, text), " ", make("span", { class: "hint" }, about));
  return make("label", { class: "choice" }, make("input", { type, name, value }), words);
};

const scheduledStores = () => (known.settings["schedules.kanto.store"] ?? "").split(",");

/** Choose the first store of the schedule, or the first that is there. */
function preselect(choices) {
  const usual = `store ${scheduledStores()[0]}`;
  const wanted = choices.find((each) => each.value === usual) ?? choices.find((each) => !each.absent);
  for (const radio of $("destinations").querySelectorAll("input")) radio.checked = radio.value === wanted.value;
}

/** The options that name a destination by its id. */
function destinationOptions(id) {
  const [kind, name] = id.split(" ");
  if (kind === "target") return { "storage.provider": "local", "local.target": name };
  return kind ? { "backup.store": name } : {};
}

async function backUp(form) {
  const options = {
    ...destinationOptions(form.get("destination")),
    "backup.name": form.get("name"), "backup.description": form.get("description"),
  };
  if (form.get("passcode")) options["backup.passcode"] = form.get("passcode");
  if (form.getAll("dataSet").length) options["backup.dataTypes"] = form.getAll("dataSet");
  await beginJob("backup", filled(options));
  $("backup-form").elements.passcode.value = "";
  await look();
  $("now-title").focus();
}

// ---- Archives

const shelf = { archives: [], next: "" };

async function readArchives(more = false) {
  const store = $("store").value, state = $("archives-state");
  if (!shelf.archives.length) say(state, "Reading the store…");
  let page = { archives: [] }, failure = null;
  try {
    page = await get(query("archives", { store, limit: 20, after: more ? shelf.next : "" }));
  } catch (error) {
    failure = error;
  }
  if (store !== $("store").value) return;
  shelf.archives = more ? [...shelf.archives, ...page.archives] : page.archives;
  shelf.next = page.next;
  say(state, shelf.archives.length ? "" : "No archives here.", failure);
  showArchives();
}

const dateOf = (archive) => (archive.isDated ? when(archive.made) : "unknown date");

function showArchives() {
  sync($("archives"), shelf.archives, (each) => `${$("store").value}/${each.name}`, makeArchive);
  show($("archives-more"), Boolean(shelf.next));
}

function makeArchive(archive) {
  const { encrypted, files, bytes, name } = archive, date = dateOf(archive);
  const about = [encrypted && "encrypted", files !== null && count(files, "file"), sizeOf(bytes), name];
  const open = button("Open", `the archive of ${date}`, () => openArchive(archive));
  return makeRow(capital(date), about.filter(Boolean).join(", "), open);
}

// ---- One archive, in a dialog

const CLOSED = { store: "", name: "", handle: "", key: {}, restore: {}, path: "", next: 0 };
const opened = { ...CLOSED };

const archivePath = (...rest) => ["archives", segments(opened.store, opened.name), ...rest].join("/");
const readOpened = (path, values) => get(query(path, { ...values, handle: opened.handle }));

async function openArchive(archive) {
  Object.assign(opened, CLOSED, { store: $("store").value, name: archive.name });
  put($("archive-title"), `Archive of ${dateOf(archive)}`);
  const locked = archive.name.endsWith(".age");
  show($("unlock"), locked);
  showInside(false);
  facts($("archive-facts"), [["Name", archive.name]]);
  say($("archive-state"), "");
  $("restore-form").reset();
  $("archive").showModal();
  $("archive-title").focus();
  if (!locked) await readManifest();
}

/** Show or hide what can be done with an archive that is readable. */
function showInside(visible) {
  for (const id of ["archive-restore", "files-part", "restore-part"]) show($(id), visible);
}

async function readManifest() {
  const { name } = opened;
  say($("archive-state"), "Reading the archive…");
  try {
    const { manifest, restore } = await readOpened(archivePath());
    if (name !== opened.name) return;
    opened.restore = restore;
    showManifest(manifest ?? {});
    await showFolder("");
    showInside(true);
    say($("archive-state"), "");
  } catch (error) {
    if (name === opened.name) say($("archive-state"), "", error);
  }
}

function showManifest({ created, device, sources = [], counts = {}, description, skipped }) {
  const sets = [...new Set(sources.map(({ prefix }) => (prefix ?? "").split("/")[0]).filter(Boolean))];
  facts($("archive-facts"), [
    ["Begun", capital(when(created))], ["Device", device], ["Files", counts.files?.toLocaleString("en")],
    ["Content", sizeOf(counts.bytes)], ["Skipped", skipped], ["Description", description],
    ["Of", sets.length ? sets.join(", ") : sources.map(({ path }) => path).join(", ")], ["Name", opened.name],
  ]);
  showSets($("restore-sets"), sets, true);
}

/** Offer data sets; those of `chosen` are chosen from the beginning. */
function showSets(fieldset, sets, chosen) {
  show(fieldset, sets.length > 0);
  const choices = fieldset.querySelector(".choices");
  choices.replaceChildren(...sets.map((name) => makeChoice("dataSet", "checkbox")({ value: name, name })));
  for (const box of choices.querySelectorAll("input")) box.checked = chosen;
}

async function unlock(form) {
  const secret = form.get("secret");
  const key = secret.trim().startsWith("AGE-SECRET-KEY-") ? { identity: secret.trim() } : { passcode: secret };
  const answer = await post(`archives/${segments(opened.store)}/open`, { name: opened.name, ...key });
  Object.assign(opened, { handle: (await answer.json()).handle, key });
  $("unlock").reset();
  show($("unlock"), false);
  await readManifest();
  $("files-title").focus();
}

async function showFolder(path, more = false) {
  const { name } = opened;
  const page = await readOpened(archivePath("files"), { path, limit: 100, after: more ? opened.next : "" });
  if (name !== opened.name) return;
  Object.assign(opened, { path, next: page.next });
  put($("files-state"), page.entries.length || more ? "" : "This folder is empty.");
  showCrumbs(path ? path.split("/") : []);
  if (!more) $("files").replaceChildren();
  $("files").append(...page.entries.map(makeFile));
  show($("files-more"), page.next !== undefined);
}

function showCrumbs(parts) {
  const crumb = (text, index) => {
    const node = button(text, "", () => enter(parts.slice(0, index).join("/")), "quiet");
    if (index === parts.length) node.setAttribute("aria-current", "location");
    return make("li", { class: "actions" }, node);
  };
  $("crumbs").replaceChildren(...["All files", ...parts].map(crumb));
}

function makeFile({ name, kind, sizeBytes }) {
  const leaf = name.slice(name.lastIndexOf("/") + 1);
  if (kind === "directory") {
    return make("li", { class: "actions folder" }, button(`${leaf}/`, "", () => enter(name), "link"));
  }
  if (kind !== "file") return makeRow(leaf, kind);
  return makeRow(leaf, size(sizeBytes), button("Download", leaf, () => download(name, leaf, sizeBytes)));
}

async function enter(path) {
  await showFolder(path);
  $("crumbs").lastChild.querySelector("button").focus();
}

/** Save one file. A small one goes through the page, so that a refusal appears here and not as a file. */
async function download(path, name, bytes) {
  const address = `${API}/${query(archivePath("files", "content"), { path, handle: opened.handle })}`;
  if (bytes > BLOB_BYTES) return saveAs(address, name);
  const blob = URL.createObjectURL(await (await send("GET", address)).blob());
  saveAs(blob, name);
  setTimeout(() => URL.revokeObjectURL(blob), 60_000);
}

function saveAs(address, name) {
  make("a", { href: address, download: name }).click();
}

async function previewRestore(form) {
  const options = { ...opened.restore, "restore.preview": true, "restore.mode": form.get("mode") };
  if (form.get("foreign")) options["restore.foreign"] = true;
  if (form.getAll("dataSet").length) options["restore.dataTypes"] = form.getAll("dataSet");
  for (const [name, secret] of Object.entries(opened.key)) options[`restore.${name}`] = secret;
  known.asked = await beginJob("restore", options);
  $("archive").close();
  await look();
  $("now-title").focus();
}

/** Forget what opens an encrypted archive as soon as its dialog is closed. */
function closeArchive() {
  Object.assign(opened, CLOSED);
  $("unlock").reset();
}

// ---- Skipped

async function readSkipped() {
  const last = known.jobs.find((job) => job.kind === "backup" && job.state === "FINISHED");
  const job = last && await getJob(last.id);
  const said = `The last backup skipped ${job?.unexportable ? entries(job.unexportable) : "nothing"}.`;
  put($("skipped-sentence"), job ? said : "There is no backup yet.");
  showSkipped(job?.leftOut ?? [], job?.leftOutMore ?? 0);
}

const entries = (number) => count(number, "entry", "entries");

function showSkipped(skipped, more) {
  names($("skipped-names"), skipped.map(({ name, reason }) => `${name}: ${reason}`), more);
}

async function countNow() {
  put($("skipped-sentence"), "Counting…");
  try {
    const info = await get("info");
    const sentences = [
      `A backup now would save ${count(info.files, "file")}, ${size(info.bytes)}.`,
      `It would skip ${entries(info.unexportable)}.`,
      info.excluded ? `The settings exclude ${entries(info.excluded)}.` : "",
      info.complete ? "" : "The time was too short to count everything.",
    ];
    put($("skipped-sentence"), sentences.join(" "));
    showSkipped(info.leftOut, info.leftOutMore ?? 0);
  } catch (error) {
    put($("skipped-sentence"), "");
    throw error;
  }
}

// ---- History

/** Put the newest page of jobs before those that are known; return true when it has one that is new. */
function takeJobs(page) {
  const ended = page.jobs.filter((job) => job.endTime), newest = known.jobs?.[0]?.id;
  const older = (known.jobs ?? []).filter((job) => !ended.some(({ id }) => id === job.id));
  if (!older.length) known.olderJobs = page.next;
  const first = !known.jobs;
  known.jobs = [...ended, ...older];
  return first || ended[0]?.id !== newest;
}

/** The newest failed job with the code that `health` tells. */
async function readFailure() {
  const { lastError } = known.health;
  const failed = known.jobs.find((job) => lastError && job.statusCode === lastError);
  if (!failed) known.failure = null;
  else if (known.failure?.id !== failed.id) known.failure = await getJob(failed.id);
}

async function readOlderJobs() {
  const page = await get(query("jobs", { limit: 50, before: known.olderJobs }));
  known.jobs = [...known.jobs, ...page.jobs];
  known.olderJobs = page.next;
  showJobs();
}

function showJobs() {
  show($("history-empty"), !known.jobs.length);
  show($("jobs-more"), Boolean(known.olderJobs));
  sync($("jobs"), known.jobs, (job) => job.id, makeJob);
}

function makeJob(job) {
  const good = job.state === "FINISHED", story = make("div", { class: "story" });
  const end = `${nameOf(job)} ${good ? "finished" : `failed: ${job.statusCode}`}`;
  const line = make("div", {}, make("strong", {}, capital(when(job.endTime))),
    make("span", { class: good ? "good" : "bad" }, end), make("span", {}, sizeOf(job.archiveBytes)));
  const node = make("details", {}, make("summary", {}, line), story);
  node.addEventListener("toggle", () => node.open && !story.firstChild && act(story, () => tellStory(story, job.id)));
  return make("li", {}, node);
}

async function tellStory(place, id) {
  const job = await getJob(id);
  const told = make("dl", { class: "facts" });
  facts(told, [
    ["Begun", capital(when(job.startTime))], ["Took", job.seconds === undefined ? "" : duration(job.seconds)],
    ["Message", job.message], ["What helps", HELP[job.statusCode]],
    ["Directory", job.directory], ["Archive", job.archive], ["Kept in", job.place],
    ["Files", job.files?.toLocaleString("en")], ["Content", sizeOf(job.contentBytes)],
    ["Archive size", sizeOf(job.archiveBytes)], ["SHA-256", job.sha256],
    ["Name", job.name], ["Description", job.description], ["Skipped", job.unexportable || ""],
  ]);
  place.replaceChildren(told);
}

// ---- Schedule

function showSchedule() {
  const { active, schedules } = known.schedule;
  const makeSchedule = (name) => make("li", {}, make("strong", {}, name), make("span"));
  const update = (node, name) => put(node.lastChild, clockSentence(schedules[name]));
  sync($("schedules"), Object.keys(schedules), (name) => name, makeSchedule, update);
  put($("schedule-sentence"), active ? periodicSentence() : "Off: the agent makes no periodic backups.");
  show($("schedule-off"), active);
  put($("schedule-on"), active ? "Change the time" : "Switch on");
}

function periodicSentence() {
  const { period, next, from, to } = known.schedule, store = scheduledStores().join(" and ");
  const parts = [`On: a backup every ${period}`];
  if (store) parts.push(`to ${store}`);
  if (from) parts.push(`from ${when(from)}`);
  if (to) parts.push(`until ${when(to)}`);
  return `${parts.join(", ")}. ${next ? `The next one runs ${when(next)}.` : ""}`;
}

function clockSentence({ next, missed, lastError }) {
  const parts = [next ? `Next ${when(next)}` : "No further one"];
  if (missed) parts.push(`${missed} missed in a row`);
  if (lastError) parts.push(`the last one failed (${lastError})`);
  return parts.join(", ");
}

async function activate(form) {
  const moment = (name) => (form.get(name) ? new Date(form.get(name)).toISOString() : "");
  await post("schedule/activate", filled({ from: moment("from"), to: moment("to") }));
  await look();
}

async function deactivate() {
  await post("schedule/deactivate");
  await look();
  $("schedule-on").focus();
}

// ---- The beginning

async function begin() {
  known.settings = await get("settings");
  showSettings(known.settings);
  await readPlaces().catch(showDestinations); // settings may forbid to ask for them
  await refresh();
  show($("device-view"), true);
  show($("sign-out"), true);
  live.open();
}

function showSettings(settings) {
  const sets = Object.keys(settings).filter((key) => key.startsWith("dataSets.")).map((key) => key.split(".")[1]);
  put($("device"), `of ${settings.deviceId || location.hostname}`);
  put($("backup-what"), settings.dir ? `Saves ${settings.dir}${sets.length ? ", or the chosen data" : ""}.` : "");
  showSets($("backup-sets"), [...new Set(sets)], !settings.dir);
}

function listen() {
  onSubmit($("sign-in-form"), signIn);
  onPress($("sign-out"), signOut);
  onPress($("cancel"), cancel);
  onSubmit($("finalize-form"), finalize);
  onPress($("discard"), discard);
  onPress($("confirm"), confirmRestore);
  onPress($("revert"), cancel);
  onPress($("result-close"), closeResult);
  onSubmit($("backup-form"), backUp);
  $("store").addEventListener("change", () => readArchives());
  onPress($("archives-again"), () => readArchives());
  onPress($("archives-more"), () => readArchives(true));
  onPress($("places-again"), readPlaces);
  onPress($("count"), countNow);
  onPress($("jobs-more"), readOlderJobs);
  onSubmit($("schedule-form"), activate);
  onPress($("schedule-off"), deactivate);
  onPress($("archive-close"), () => $("archive").close());
  onPress($("archive-restore"), () => $("restore-part-title").focus());
  $("archive").addEventListener("close", closeArchive);
  onSubmit($("unlock"), unlock);
  onPress($("files-more"), () => showFolder(opened.path, true));
  onSubmit($("restore-form"), previewRestore);
}

/** Show the device, or keep trying until the agent answers. */
async function start() {
  try {
    await begin();
  } catch (error) {
    if (error.status === 401) return;
    lost(error);
    setTimeout(start, AGAIN_MS);
  }
}

listen();
setInterval(lookAgain, PULSE_MS);
addEventListener("online", lookAgain);
start();
