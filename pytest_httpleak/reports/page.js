"use strict";
(() => {
  const buttons = [...document.querySelectorAll("[data-kind][aria-pressed]")];
  const articles = [...document.querySelectorAll("article")];
  const search = document.getElementById("search");
  const nothing = document.getElementById("nothing");
  let kind = "";  // also the page's fragment: report.html#responses
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const article of articles) {
      const text = article.textContent.toLowerCase();
      const fits = (!kind || article.dataset.kind === kind) && words.every((word) => text.includes(word));
      article.hidden = !fits;
      shown += fits;
    }
    nothing.hidden = shown > 0;
  };
  const choose = (button) => {
    kind = button.dataset.kind;
    for (const other of buttons) other.setAttribute("aria-pressed", String(other === button));
    filter();
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      choose(button);
      history.replaceState(null, "", `#${kind}`);
    });
  }
  if (search) {
    search.addEventListener("input", filter);
    const wanted = buttons.find((button) => button.dataset.kind && `#${button.dataset.kind}` === location.hash);
    if (wanted) choose(wanted);
  }

  const chart = document.getElementById("chart");
  if (!chart) return;
  const points = JSON.parse(chart.dataset.points);
  const names = ["fds", "sockets", "threads", "tasks"];
  const cursor = chart.querySelector(".cursor");
  const reading = document.getElementById("reading");
  chart.addEventListener("pointermove", (event) => {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    let nearest = points[0];
    for (const point of points) if (Math.abs(point[0] - x) < Math.abs(nearest[0] - x)) nearest = point;
    cursor.setAttribute("x1", nearest[0]);
    cursor.setAttribute("x2", nearest[0]);
    const counts = names.map((name, index) => `${name} ${nearest[3 + index] ?? "?"}`).join(", ");
    reading.textContent = `test ${nearest[1]}: ${counts}: ${nearest[2]}`;
  });
})();
