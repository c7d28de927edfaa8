"use strict";
// Around the terminal of textual-serve, whose script ran before this one: the key, what is told
// of a window's end, and links that open only when they were meant.

const KEY = "key of the window";
const sentence = document.getElementById("sentence");
const ask = document.getElementById("ask");
const again = document.getElementById("again");
const begin = window.onload;
let told = "";
let socket = null;

// The key comes behind the #, which no browser sends anywhere, and does not stay there.
addEventListener("hashchange", () => location.reload());
const given = new URLSearchParams(location.hash.slice(1)).get("key");
if (given) {
  localStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname);
}

function wanted(why) {
  sentence.textContent = why;
  ask.hidden = false;
  again.hidden = true;
  document.getElementById("key").focus();
}

ask.addEventListener("submit", (event) => {
  event.preventDefault();
  localStorage.setItem(KEY, document.getElementById("key").value.trim());
  location.reload();
});
again.addEventListener("click", () => location.reload());

function heard(event) {
  if (typeof event.data !== "string") return;
  const [kind, text] = JSON.parse(event.data);
  if (kind === "locked") {
    localStorage.removeItem(KEY);
    told = kind;
  } else if (kind === "ended" || kind === "full") told = text;
}

function closed() {
  if (told === "locked") {
    wanted("That key does not open this window.");
    return;
  }
  sentence.textContent = told || "The server has ended, or cannot be reached. The chats are kept.";
  again.hidden = false;
  again.focus();
}

const Socket = window.WebSocket;
window.WebSocket = class extends Socket {
  constructor(address) {
    super(new URL(address, location.href.replace(/^http/, "ws")));
    socket = this;
    // Before anything that the terminal says.
    this.addEventListener("open", () => {
      this.send(JSON.stringify(["key", localStorage.getItem(KEY)]));
      document.querySelector(".xterm-helper-textarea").focus();
    });
    this.addEventListener("message", heard);
    this.addEventListener("close", closed);
  }
};

// Terminals have no Shift+Enter of their own: it is told as Alt+Enter is, which begins a line.
addEventListener("keydown", (event) => {
  const plain = !(event.ctrlKey || event.altKey || event.metaKey || event.isComposing);
  if (event.key !== "Enter" || !event.shiftKey || !plain || socket?.readyState !== Socket.OPEN) return;
  event.preventDefault();
  event.stopPropagation();
  socket.send(JSON.stringify(["stdin", "\x1b\r"]));
}, true);

// A click on an address in a chat is mostly a click on the chat; Ctrl or Cmd means the address.
let meant = false;
addEventListener("mouseup", (event) => { meant = event.ctrlKey || event.metaKey; }, true);
const open = window.open.bind(window);
window.open = (...where) => (meant ? open(...where) : null);

// The terminal measures its font once, when it begins.
window.onload = async (event) => {
  const faces = ["15px", "bold 15px", "italic 15px", "italic bold 15px"];
  await Promise.all(faces.map((face) => document.fonts.load(`${face} "Roboto Mono"`)));
  if (localStorage.getItem(KEY)) begin(event);
  else wanted("Its address has a key, which the server shows when it starts.");
};
