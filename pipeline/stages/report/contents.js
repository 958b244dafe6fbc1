// Marks the section that is read in the contents, and closes their menu on a narrow screen. Without it they are links.
"use strict";

{
  const contents = document.querySelector("#contents"), links = [...contents.querySelectorAll("ol a")];
  const headings = links.map((link) => document.querySelector(link.hash));
  const mark = () => {
    const read = headings.findLastIndex((heading) => heading.getBoundingClientRect().top < innerHeight / 3);
    links.forEach((link, place) => (place === read ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current")));
  };
  contents.addEventListener("click", () => contents.matches(":popover-open") && contents.hidePopover());
  addEventListener("scroll", mark, { passive: true });
  mark();
}
