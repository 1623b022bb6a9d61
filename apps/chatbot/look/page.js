// Sources open where their number is pressed, and what a screen reader says is in the page's language and free of markup.
const words = {
  de: {
    bot: "Antwort", user: "Deine Frage", chat: "Gespräch", side: "Seitenleiste ein- oder ausblenden",
    upload: "Datei oder Bild anhängen", send: "Absenden", stop: "Anhalten",
  },
  en: {
    bot: "Answer", user: "Your question", chat: "Conversation", side: "Show or hide the sidebar",
    upload: "Attach a file or picture", send: "Send", stop: "Stop",
  },
};
const labelled = {
  '#chat [data-testid="bot"]': "bot",
  '#chat [data-testid="user"]': "user",
  '#chat [role="log"]': "chat",
  "#side .toggle-button": "side",
  "#box .upload-button": "upload",
  "#box .submit-button": "send",
  "#box .stop-button": "stop",
};

window.campus = {
  language: "de",
  begun: false,
  speak(language) {
    this.language = language === "en" ? "en" : "de";
    document.documentElement.lang = this.language;
    this.label();
    if (!this.begun && innerWidth < 768) document.querySelector("#side.open .toggle-button")?.click();
    this.begun = true;
    document.documentElement.classList.add("begun");
  },
  label() {
    for (const [selector, name] of Object.entries(labelled)) {
      const label = words[this.language][name];
      for (const part of document.querySelectorAll(selector)) {
        if (part.getAttribute("aria-label") !== label) part.setAttribute("aria-label", label);
      }
    }
  },
  open(turn, number) {
    const card = turn.querySelector(`details.card-${number}`);
    if (!card) return;
    card.open = true;
    card.scrollIntoView({ behavior: "smooth", block: "nearest" });
    card.classList.add("pointed");
    setTimeout(() => card.classList.remove("pointed"), 1600);
    card.querySelector("summary").focus({ preventScroll: true });
  },
};

let due = false;
new MutationObserver(() => {
  if (due) return;
  due = true;
  requestAnimationFrame(() => {
    due = false;
    window.campus.label();
  });
}).observe(document, { subtree: true, childList: true, attributes: true, attributeFilter: ["aria-label"] });

document.addEventListener(
  "click",
  (event) => {
    const cite = event.target.closest && event.target.closest("sup.cite");
    if (!cite) return;
    event.preventDefault();
    event.stopPropagation();
    const number = [...cite.classList].map((name) => name.match(/^cite-(\d+)$/)).find(Boolean);
    const turn = cite.closest(".turn");
    if (number && turn) window.campus.open(turn, number[1]);
  },
  true,
);
