// Sources open where their number is pressed, answers can be copied, and the page says which language it is in.
window.campus = {
  speak(language) {
    document.documentElement.lang = language;
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
