(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = (theme) => { root.dataset.theme = theme; };
  show(dark.matches ? "dark" : "light");
  dark.addEventListener("change", () => show(dark.matches ? "dark" : "light"));
  document.querySelector("button.theme").addEventListener("click", () =>
    show(root.dataset.theme === "dark" ? "light" : "dark"));
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    show("light");
  });
  addEventListener("afterprint", () => show(before));

  for (const example of document.querySelectorAll(".example")) {
    const sound = example.querySelector("audio");
    const screen = example.querySelector(".screen");
    if (!sound || !screen) continue;
    const head = screen.querySelector(".head");
    const draw = () => {
      head.style.display = "block";
      head.style.left = `${(100 * sound.currentTime) / (sound.duration || 1)}%`;
      if (!sound.paused) requestAnimationFrame(draw);
    };
    sound.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) if (other !== sound) other.pause();
      draw();
    });
    sound.addEventListener("seeked", draw);
    screen.addEventListener("click", (event) => {
      const box = screen.getBoundingClientRect();
      sound.currentTime = (sound.duration || 0) * (event.clientX - box.left) / box.width;
      sound.play();
    });
  }

  for (const heading of document.querySelectorAll("th")) {
    heading.addEventListener("click", () => {
      const table = heading.closest("table");
      const column = [...heading.parentNode.children].indexOf(heading);
      const down = heading.getAttribute("aria-sort") !== "descending";
      for (const other of heading.parentNode.children) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = (row) => row.children[column].dataset.value ?? row.children[column].textContent;
      const compare = (a, b) => {
        const [x, y] = [key(a), key(b)];
        const numbers = x !== "" && y !== "" && !isNaN(x) && !isNaN(y);
        return (numbers ? x - y : x.localeCompare(y)) * (down ? -1 : 1);
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare));
    });
  }
})();
