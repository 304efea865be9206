// Dragging by a handle: with a finger, a pen or a mouse. Owns the pointer, the lifted element and scrolling at the edges.
// Must not know what is dragged; what can be dragged can be moved by buttons or keys as well, which is elsewhere.

const EDGE_PX = 70;
const FASTEST_PX = 14;
const SLOP_PX = 4;

/**
 * Let a handle drag an element.
 *
 * `lift()` is called once it moves, `over(dy, event)` with every move, `drop()` at the end, `cancel()` when it is broken
 * off: by Escape, or by the system.
 */
export function draggable(handle, element, { lift, over, drop, cancel }) {
  handle.addEventListener("pointerdown", (down) => {
    if (down.button !== 0 || handle.disabled) return;
    handle.setPointerCapture(down.pointerId);
    const scroller = scrollerOf(element);
    const beganAt = scroller.scrollTop;
    let last = down;
    let lifted = false;
    let frame = 0;

    const place = () => {
      const dy = last.clientY - down.clientY + scroller.scrollTop - beganAt;
      element.style.transform = `translate(${last.clientX - down.clientX}px, ${dy}px)`;
      over(dy, last);
    };
    const scroll = () => {
      const box = scroller === document.scrollingElement ? { top: 0, bottom: innerHeight } : scroller.getBoundingClientRect();
      const inside = Math.min(last.clientY - box.top, box.bottom - last.clientY);
      if (inside < EDGE_PX) {
        const way = last.clientY - box.top < EDGE_PX ? -1 : 1;
        const before = scroller.scrollTop;
        scroller.scrollTop += way * Math.min(FASTEST_PX, ((EDGE_PX - inside) / EDGE_PX) * FASTEST_PX);
        if (scroller.scrollTop !== before) place();
      }
      frame = requestAnimationFrame(scroll);
    };
    const move = (event) => {
      last = event;
      if (!lifted) {
        if (Math.hypot(event.clientX - down.clientX, event.clientY - down.clientY) < SLOP_PX) return;
        lifted = true;
        element.classList.add("lifted");
        lift();
        frame = requestAnimationFrame(scroll);
      }
      place();
    };
    const end = (done) => {
      cancelAnimationFrame(frame);
      for (const [name, listener] of Object.entries(heard)) handle.removeEventListener(name, listener);
      removeEventListener("keydown", escape, true);
      element.classList.remove("lifted");
      element.style.transform = "";
      if (lifted) done();
    };
    const escape = (event) => {
      if (event.key !== "Escape") return;
      event.preventDefault();
      event.stopPropagation();
      end(cancel);
    };
    const heard = { pointermove: move, pointerup: () => end(drop), pointercancel: () => end(cancel) };
    for (const [name, listener] of Object.entries(heard)) handle.addEventListener(name, listener);
    addEventListener("keydown", escape, true);
  });
}

function scrollerOf(element) {
  for (let one = element.parentElement; one; one = one.parentElement) {
    if (one.scrollHeight > one.clientHeight && /auto|scroll/.test(getComputedStyle(one).overflowY)) return one;
  }
  return document.scrollingElement;
}

/** Let the rows of a list be dragged to other places of it. `dropped(from, to)` gets indices among the rows. */
export function sortable(list, row, handle, { begin, end, dropped }) {
  let rows = [];
  let from = 0;
  let to = 0;
  let height = 0;
  let middles = [];

  const settle = () => {
    for (const one of rows) one.style.transform = "";
    end();
  };
  draggable(handle, row, {
    lift() {
      begin();
      rows = [...list.children];
      from = to = rows.indexOf(row);
      const boxes = rows.map((one) => one.getBoundingClientRect());
      height = boxes[from].height;
      middles = boxes.map((box) => box.top + box.height / 2);
    },
    over(dy) {
      row.style.transform = `translateY(${dy}px)`;
      // Another row makes room as soon as it is half covered.
      const [top, bottom] = [middles[from] + dy - height / 2, middles[from] + dy + height / 2];
      to = from;
      while (to > 0 && top < middles[to - 1]) to -= 1;
      while (to < rows.length - 1 && bottom > middles[to + 1]) to += 1;
      rows.forEach((one, index) => {
        if (one === row) return;
        const way = index > from && index <= to ? -height : index < from && index >= to ? height : 0;
        one.style.transform = way ? `translateY(${way}px)` : "";
      });
    },
    drop() {
      settle();
      if (to !== from) dropped(from, to);
    },
    cancel: settle,
  });
}
