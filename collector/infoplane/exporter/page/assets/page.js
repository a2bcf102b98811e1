// What the charts of the page need inside the browser: short labels, verdict boxes and the hover card.
window.infoplane = (() => {
  // The last one is no severity: an intervention.
  const SEVERITIES = ["#8ab4f8", "#ffb547", "#ff5c5c", "#f4f7fb"];

  const escape = (text) =>
    String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

  const trim = (text) => String(Number(text));

  function tick(value) {
    const size = Math.abs(value);
    if (size >= 1e6) return trim((value / 1e6).toPrecision(4)) + "M";
    if (size >= 1e4) return trim((value / 1e3).toPrecision(4)) + "k";
    if (size > 0 && size < 1e-3) return value.toExponential(1).replace("e-", "e\u2212");
    return trim(Number(value).toPrecision(4));
  }

  const step = (name) => tick(Number(name));

  const place = (tap) => {
    const [layer, site] = tap.split("/");
    if (layer === "final_norm") return "norm";
    return !site || site === "block" ? layer : `${layer} ${site}`;
  };

  const row = (name) => name.split("|").map(place).join("\u2192");

  // One window of one tap. Cells are rounded outwards: a neighbour's overlap does not show, a seam does.
  function cell(params, api) {
    const [width, height] = api.size([1, 1]);
    const [x, y] = api.coord([api.value(0), api.value(1)]);
    const [left, right] = [Math.floor(x - width / 2), Math.ceil(x + width / 2)];
    const [top, bottom] = [Math.floor(y - height / 2), Math.ceil(y + height / 2)];
    return {
      type: "rect",
      shape: { x: left, y: top, width: Math.max(right - left, 1), height: Math.max(bottom - top, 1) },
      style: { fill: api.visual("color") },
      emphasis: { style: { stroke: "#eef2f7", lineWidth: 1 } },
    };
  }

  // A verdict on a heatmap: a box around the rows and windows of its evidence, or a faint line if it is another's.
  function box(params, api) {
    const [x0, x1, y0, y1, code, own] = [0, 1, 2, 3, 4, 5].map((i) => api.value(i));
    const [width, height] = api.size([1, 1]);
    const a = api.coord([x0, y0]);
    const b = api.coord([x1, y1]);
    const color = SEVERITIES[code];
    const top = b[1] - height / 2;
    const tall = a[1] - b[1] + height;
    if (!own) {
      const x = b[0] + width / 2;
      return {
        type: "line",
        shape: { x1: x, x2: x, y1: top, y2: top + tall },
        style: { stroke: color, lineWidth: 1, lineDash: [3, 3], opacity: 0.7 },
      };
    }
    const left = a[0] - width / 2;
    return {
      type: "rect",
      shape: { x: left, y: top, width: Math.max(b[0] - a[0] + width, 4), height: tall },
      style: { fill: "transparent", stroke: color, lineWidth: 2 },
    };
  }

  const number = (value) =>
    value === null || value === undefined ? "\u2013" : trim(Number(value).toPrecision(4));

  function facts(one) {
    const lines = [];
    if (one.null_mean !== null)
      lines.push(["null", `${number(one.null_mean)} \u00b1 ${number(one.null_sd)}`]);
    if (one.ceiling !== null)
      lines.push(["ceiling", number(one.ceiling) + (one.saturated ? " (saturated)" : "")]);
    if (one.band_low !== null && one.band_high !== null)
      lines.push(["band", `${number(one.band_low)} \u2026 ${number(one.band_high)}`]);
    lines.push(["n", one.n]);
    lines.push(["complete", `${(100 * one.completeness).toFixed(1)} %`]);
    return lines;
  }

  function card(detail) {
    const first = detail.rows[0];
    if (!first) return "no estimate here";
    const steps = `steps ${first.first_step}\u2013${first.last_step}, window ${first.window}`;
    const head = `<div class="tip-title">${escape(detail.title)}</div><div class="tip-steps">${steps}</div>`;
    const value = (one) => (one.undefined ? `undefined: ${escape(one.undefined)}` : number(one.value));
    if (detail.rows.length > 3) {
      const cells = detail.rows.map((r) => `<span>${escape(row(r.name))}</span><b>${value(r)}</b>`);
      const worst = Math.min(...detail.rows.map((r) => r.completeness));
      const foot = `worst completeness ${(100 * worst).toFixed(1)} %, unit: ${escape(detail.unit)}`;
      return `${head}<div class="tip-many">${cells.join("")}</div><div class="tip-steps">${foot}</div>`;
    }
    const blocks = detail.rows.map((one) => {
      const pairs = facts(one).map(([k, v]) => `<span>${k}</span><b>${escape(v)}</b>`);
      const title = `<span>${escape(row(one.name))}</span><b class="tip-value">${value(one)} ${escape(detail.unit)}</b>`;
      return `<div class="tip-facts">${title}${pairs.join("")}</div>`;
    });
    return head + blocks.join("");
  }

  // The points of a chart carry their window only; the rest is asked for when somebody looks.
  function tip(run, chart) {
    return (params, ticket, callback) => {
      const one = Array.isArray(params) ? params[0] : params;
      if (!one || !one.value) return "";
      const heat = !Array.isArray(params);
      const query = new URLSearchParams({ run, chart, window: heat ? one.value[3] : one.value[2] });
      if (heat) query.set("index", one.value[1]);
      fetch(`/api/detail?${query}`)
        .then((answer) => answer.json())
        .then((detail) => callback(ticket, card(detail)))
        .catch(() => callback(ticket, "the exporter does not answer"));
      return "\u2026";
    };
  }

  return { tick, step, row, cell, box, tip };
})();
