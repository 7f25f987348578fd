"use strict";
// The page says all of its text without this. It makes the table sortable and searchable, and saves the history.
(() => {
  const table = document.getElementById("atoms");
  if (table) {
    const body = table.tBodies[0];
    const rows = [...body.rows];
    const order = new Map(rows.map((row, place) => [row, place]));
    const heads = [...table.tHead.rows[0].cells];
    const compare = new Intl.Collator(undefined, { numeric: true }).compare;

    const sort = (head, column) => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const isNumber = head.classList.contains("n");
      const sign = down ? -1 : 1;
      const keyed = rows.map((row) => {
        const said = row.cells[column].textContent;
        return [row, said === "" ? null : isNumber ? parseFloat(said) : said];
      });
      keyed.sort(([a, x], [b, y]) => {
        if (x === null || y === null) return (x === null) - (y === null) || order.get(a) - order.get(b);
        return sign * (isNumber ? x - y : compare(x, y)) || order.get(a) - order.get(b);
      });
      body.append(...keyed.map(([row]) => row));
    };

    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      button.addEventListener("click", () => sort(head, column));
      head.replaceChildren(button);
    });

    const find = document.getElementById("find");
    const state = document.getElementById("in-state");
    const count = document.getElementById("count");
    let said = null;
    const filter = () => {
      said ??= rows.map((row) => row.textContent.toLowerCase());
      const wanted = find.value.toLowerCase();
      let left = 0;
      rows.forEach((row, place) => {
        const stays = said[place].includes(wanted) && (!state.value || row.cells[1].textContent === state.value);
        row.hidden = !stays;
        left += stays;
      });
      count.textContent = `${left.toLocaleString("en")} of ${rows.length.toLocaleString("en")}`;
    };
    find.form.hidden = false;
    find.form.addEventListener("submit", (event) => event.preventDefault());
    find.addEventListener("input", filter);
    state.addEventListener("change", filter);
    // A browser that goes back to the page has kept what was written here.
    if (find.value || state.value) filter();
  }

  const save = document.getElementById("save");
  if (save) {
    save.hidden = false;
    save.addEventListener("click", () => {
      const kept = JSON.parse(document.getElementById("history").textContent);
      const named = (list, place) => (place == null ? null : kept[list][place]);
      const entries = kept.entries.map((row, place) => ({
        number: kept.first + place,
        at: kept.start + row[0] / 1e6,
        atom: named("names", row[1]),
        attempt: row[2],
        old: named("states", row[3]),
        new: named("states", row[4]),
        began: row[5] == null ? null : kept.start + row[5] / 1e6,
        worker: named("workers", row[6]),
        failure: named("failures", row[7]),
      }));
      const whole = JSON.stringify({ run: kept.run, flow: kept.flow, entries }, null, 1);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([whole], { type: "application/json" }));
      link.download = "history.json";
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
})();
