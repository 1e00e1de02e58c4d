// The report reads and prints without this script. With it: hover text at once, a variant picked out of every figure, a copy button.
(() => {
  const tip = document.createElement("div");
  tip.id = "tip"; tip.hidden = true; document.body.append(tip);
  document.addEventListener("pointermove", (event) => {
    const drawn = event.target.closest("svg *");
    const title = drawn?.querySelector(":scope > title");
    if (title) { drawn.dataset.tip = title.textContent; title.remove(); }
    const text = drawn?.dataset.tip;
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const { width, height } = tip.getBoundingClientRect();
    tip.style.left = `${Math.min(event.clientX + 14, innerWidth - width - 8)}px`;
    tip.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18}px`;
  });

  const main = document.querySelector("main");
  const pick = (slot) => {
    main.querySelectorAll("svg .picked").forEach((mark) => mark.classList.remove("picked"));
    if (slot === undefined) { delete main.dataset.picked; return; }
    main.dataset.picked = slot;
    main.querySelectorAll(`svg .v${slot}`).forEach((mark) => mark.classList.add("picked"));
  };
  document.querySelectorAll(".legend [data-slot]").forEach((item) => {
    item.addEventListener("pointerenter", () => pick(item.dataset.slot));
    item.addEventListener("pointerleave", () => pick());
  });

  document.querySelectorAll(".paste").forEach((box) => {
    const button = document.createElement("button");
    button.type = "button"; button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(box.querySelector("pre").textContent);
      button.textContent = "Copied";
    });
    box.append(button);
  });

  addEventListener("beforeprint", () => document.querySelectorAll("details.advice").forEach((part) => { part.open = true; }));
})();
