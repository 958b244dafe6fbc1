/* What readers of the keyboard and of screen readers need besides: a name of the search, and tables that can be scrolled. */
function help() {
  document.querySelector(".md-search")?.setAttribute("aria-label", "Search");
  document.querySelectorAll(".md-typeset__scrollwrap, .md-typeset pre > code").forEach((one) => one.setAttribute("tabindex", "0"));
}
document.addEventListener("DOMContentLoaded", () => { help(); new MutationObserver(help).observe(document.body, { childList: true, subtree: true }); });
