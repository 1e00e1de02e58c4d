// The report reads and prints without this script. With it: hover text at once, a variant picked out of every figure, a copy button.
(() => {
  // The timeline: zooms by the view boxes of its panes, and reads values back from the heights of their paths.
  const timeline = (plot) => {
    const all = plot.querySelectorAll(".pane"), seconds = +plot.dataset.seconds, axis = plot.querySelector(".time-axis");
    const of = (element, name) => +element.getAttribute(name);
    const left = of(all[0], "x"), width = of(all[0], "width"), { y: rim, width: across, height } = all[0].viewBox.baseVal, tall = height + 2 * rim;
    const make = (parent, tag, attributes, text = "") => {
      const element = document.createElementNS(plot.namespaceURI, tag);
      for (const name in attributes) element.setAttribute(name, attributes[name]);
      element.textContent = text;
      return parent.appendChild(element);
    };
    let from = 0, to = across;
    const at = (unit) => left + (unit - from) / (to - from) * width;
    const unitAt = (x) => from + Math.min(1, Math.max(0, (x - left) / width)) * (to - from);

    const drawAxis = () => {
      const span = (to - from) / across * seconds, per = span < 120 ? 1 : 60, raw = span / per / 8, size = 10 ** Math.floor(Math.log10(raw));
      const step = [1, 2, 2.5, 5, 10].map((m) => m * size).find((s) => s >= raw * 0.999), first = Math.ceil(from / across * seconds / per / step);
      const top = +axis.dataset.top, bottom = +axis.dataset.bottom;
      const decimals = [0, 1, 2, 3, 4].find((d) => Math.abs(Math.round(step * 10 ** d) - step * 10 ** d) < 1e-6) ?? 5;
      axis.textContent = "";
      for (let k = first; at(k * step * per / seconds * across) <= left + width + 0.01; k += 1) {
        const x = at(k * step * per / seconds * across);
        make(axis, "line", { class: "grid", x1: x, x2: x, y1: top, y2: bottom });
        make(axis, "text", { class: "tick", x, y: bottom + 17, "text-anchor": "middle" }, (k * step).toLocaleString("en", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
      }
      make(axis, "text", { class: "label", x: left + width / 2, y: bottom + 37, "text-anchor": "middle" }, `${per === 1 ? "Seconds" : "Minutes"} since the first request was due`);
    };
    const show = (start, end) => {
      const span = Math.min(across, Math.max(across / 2000, end - start));
      from = Math.min(across - span, Math.max(0, (start + end - span) / 2));
      to = from + span;
      all.forEach((pane) => pane.setAttribute("viewBox", `${from} ${rim} ${span} ${height}`));
      plot.querySelectorAll("[data-from]").forEach((label) => {
        const start = Math.max(left, at(+label.dataset.from)), end = Math.min(left + width, at(+label.dataset.to));
        label.setAttribute("x", (start + end) / 2);
        label.setAttribute("visibility", end - start > label.getComputedTextLength() ? "visible" : "hidden");
      });
      drawAxis();
      cursor.setAttribute("visibility", "hidden");
    };
    const zoom = (factor) => show((from + to - (to - from) * factor) / 2, (from + to + (to - from) * factor) / 2);
    const move = (share) => show(from + (to - from) * share, to + (to - from) * share);
    const actions = { "Zoom in": () => zoom(0.5), "Zoom out": () => zoom(2), Earlier: () => move(-0.5), Later: () => move(0.5), "Whole run": () => show(0, across) };

    const bar = document.createElement("div"), readout = document.createElement("output");
    bar.className = "zoom"; bar.setAttribute("role", "group"); bar.setAttribute("aria-label", "Zoom of the timeline");
    for (const name in actions) {
      const button = document.createElement("button");
      button.type = "button"; button.textContent = name;
      button.addEventListener("click", actions[name]);
      bar.append(button);
    }
    const hint = readout.textContent = "Drag over a part of the run to zoom in, double click for the whole run.";
    bar.append(readout);
    plot.parentElement.before(bar);
    const cursor = make(plot, "line", { class: "cursor", y1: axis.dataset.top, y2: axis.dataset.bottom, visibility: "hidden" });

    const read = new Map();
    const points = (path) => {
      if (!read.has(path)) {
        let x = 0, y = 0;
        const list = [];
        for (const [, command, a, b] of path.getAttribute("d").matchAll(/([Mml])(-?\d+) ?(-?\d+)/g)) {
          [x, y] = command === "M" ? [+a, +b] : [x + +a, y + +b];
          list.push([x, y]);
        }
        read.set(path, list);
      }
      return read.get(path);
    };
    // The values of a path nearest to a moment, if that is within 6 units of the drawing; thinned samples share a moment.
    const values = (path, unit) => {
      const list = points(path), near = 6 / width * (to - from);
      let low = 0, high = list.length;
      while (low < high) { const middle = (low + high) >> 1; if (list[middle][0] < unit) low = middle + 1; else high = middle; }
      const best = [list[low - 1], list[low]].filter((point) => point && Math.abs(point[0] - unit) <= near).sort((a, b) => Math.abs(a[0] - unit) - Math.abs(b[0] - unit))[0];
      return best && `${path.dataset.name} ${+((1 - best[1] / tall) * path.dataset.top).toPrecision(3)}`;
    };
    const place = (event) => {
      const box = plot.getBoundingClientRect(), scale = plot.viewBox.baseVal.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    let begun = null, area = null;
    plot.addEventListener("pointermove", (event) => {
      const [x, y] = place(event), unit = unitAt(x);
      if (area) { area.setAttribute("x", Math.min(at(begun), at(unit))); area.setAttribute("width", Math.abs(at(unit) - at(begun))); }
      const inside = x >= left && x <= left + width, moment = unit / across * seconds;
      cursor.setAttribute("x1", at(unit)); cursor.setAttribute("x2", at(unit)); cursor.setAttribute("visibility", inside ? "visible" : "hidden");
      const pane = [...all].find((each) => each.querySelector("[data-top]") && y >= of(each, "y") - 4 && y <= of(each, "y") + of(each, "height") + 4);
      const paths = pane ? [...pane.querySelectorAll("[data-top]")] : [], texts = paths.map((path) => values(path, unit)).filter(Boolean);
      const time = seconds < 120 ? `${moment.toFixed(1)} s` : `${Math.floor(moment / 60)} min ${(moment % 60).toFixed(1)} s`;
      readout.textContent = inside ? `${time}${texts.length ? ` · ${paths[0].dataset.label}: ${texts.join(", ")} ${paths[0].dataset.unit}` : ""}` : hint;
    });
    plot.addEventListener("pointerleave", () => { readout.textContent = hint; cursor.setAttribute("visibility", "hidden"); });
    plot.addEventListener("pointerdown", (event) => {
      if (event.button || event.pointerType === "touch") return;
      begun = unitAt(place(event)[0]);
      plot.setPointerCapture(event.pointerId);
      area = make(plot, "rect", { class: "zoom-area", x: at(begun), y: axis.dataset.top, width: 0, height: axis.dataset.bottom - axis.dataset.top });
    });
    plot.addEventListener("pointerup", (event) => {
      if (!area) return;
      const unit = unitAt(place(event)[0]), wide = of(area, "width");
      area.remove(); area = null;
      if (wide > 4) show(Math.min(begun, unit), Math.max(begun, unit));
    });
    plot.addEventListener("pointercancel", () => { area?.remove(); area = null; });
    plot.addEventListener("dblclick", actions["Whole run"]);
    addEventListener("beforeprint", actions["Whole run"]);
    const keys = { ArrowLeft: "Earlier", ArrowRight: "Later", "+": "Zoom in", "=": "Zoom in", "-": "Zoom out", 0: "Whole run", Escape: "Whole run" };
    plot.tabIndex = 0;
    plot.addEventListener("keydown", (event) => {
      if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      actions[keys[event.key]]();
    });
  };

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

  document.querySelectorAll(".plot > svg[data-seconds]").forEach(timeline);

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
