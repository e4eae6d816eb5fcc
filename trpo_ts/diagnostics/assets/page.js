"use strict";
// Draws the charts of the page; one that a server offers asks it for newer contents.
(function () {
  const CONFIG = {
    responsive: true,
    displaylogo: false,
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };
  const SECONDS_BETWEEN_QUESTIONS = 3;
  const contents = JSON.parse(document.getElementById("contents").textContent);
  const place = (chart) => document.getElementById(chart.id);
  const drawn = () => Array.from(document.querySelectorAll(".chart"));

  // A chart of environment steps follows when another one is zoomed.
  function linkZoom(element, charts) {
    element.on("plotly_relayout", function (change) {
      const zoomed = "xaxis.range[0]" in change;
      if (!(zoomed || change["xaxis.autorange"]) || element.follows) return;
      const range = zoomed
        ? { "xaxis.range": [change["xaxis.range[0]"], change["xaxis.range[1]"]] }
        : { "xaxis.autorange": true };
      for (const other of charts.filter((chart) => chart.linked).map(place)) {
        if (other === element) continue;
        other.follows = true;
        Plotly.relayout(other, range).then(() => (other.follows = false));
      }
    });
  }

  // New data leave the zoom as it is.
  function keepZoom(element, layout) {
    for (const name of ["xaxis", "yaxis"]) {
      const shown = element.layout && element.layout[name];
      if (shown && shown.autorange === false) Object.assign(layout[name], { range: shown.range, autorange: false });
    }
  }

  async function draw(charts) {
    for (const chart of charts) {
      if (chart.linked) keepZoom(place(chart), chart.layout);
      await Plotly.react(place(chart), chart.data, chart.layout, CONFIG);
    }
  }

  async function refresh() {
    const status = document.getElementById("connection");
    try {
      const answer = await fetch("contents?version=" + encodeURIComponent(contents.version));
      if (answer.status === 200) {
        const news = await answer.json();
        const same = news.charts.map((chart) => chart.id).join() === contents.charts.map((chart) => chart.id).join();
        if (!same) return location.reload();
        document.getElementById("overview").innerHTML = news.overview;
        await draw(news.charts);
        contents.version = news.version;
      }
      status.textContent = answer.ok ? "" : "The server reports an error; see its terminal.";
    } catch (error) {
      status.textContent = "The server has ended: this page shows its last data.";
    }
    setTimeout(refresh, 1000 * SECONDS_BETWEEN_QUESTIONS);
  }

  draw(contents.charts).then(function () {
    for (const chart of contents.charts) if (chart.linked) linkZoom(place(chart), contents.charts);
    document.documentElement.dataset.drawn = contents.charts.length;
    if (contents.version !== null) setTimeout(refresh, 1000 * SECONDS_BETWEEN_QUESTIONS);
  });

  // Drawings have their width in pixels: on paper they take the width of the paper.
  window.addEventListener("beforeprint", function () {
    document.body.classList.add("paper");
    drawn().forEach((element) => Plotly.Plots.resize(element));
  });
  window.addEventListener("afterprint", function () {
    document.body.classList.remove("paper");
    drawn().forEach((element) => Plotly.Plots.resize(element));
  });
})();
