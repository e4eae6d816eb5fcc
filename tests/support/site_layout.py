"""What is wrong with an open page of the documentation site: its formulas and its layout."""

from __future__ import annotations

from browser import Page

__all__ = ["site_flaws"]

_FORMULAS = """(() => {
  const wrong = [];
  for (const element of document.querySelectorAll(".arithmatex"))
    if (!element.querySelector(".katex") || element.querySelector(".katex-error"))
      wrong.push("formula: " + element.textContent.slice(0, 60));
  const content = document.querySelector(".md-content").cloneNode(true);
  content.querySelectorAll("code, pre, .katex").forEach((element) => element.remove());
  const raw = content.textContent.match(/.{0,30}(\\$\\$|\\\\\\(|\\\\\\[|\\$[^$\\n]+\\$).{0,30}/);
  if (raw) wrong.push("raw formula: " + raw[0]);
  return wrong;
})()"""

_LAYOUT = """(() => {
  const wrong = [], root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) wrong.push("the page is wider than the window");

  // Who hides a part of a box: null if a reader can see or scroll to all of it.
  function cutter(box, element) {
    for (let outer = element; outer !== root; outer = outer.parentElement) {
      const style = getComputedStyle(outer), frame = outer.getBoundingClientRect();
      if (["auto", "scroll"].includes(style.overflowX)) return null;
      const across = box.left < frame.left - 1 || box.right > frame.right + 1;
      const down = box.top < frame.top - 3 || box.bottom > frame.bottom + 3;
      if (style.overflowX !== "visible" && across || style.overflowY !== "visible" && down) return outer;
    }
    return box.left < -1 || box.right > root.clientWidth + 1 ? root : null;
  }

  const texts = document.createTreeWalker(document.querySelector(".md-content"), NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    // KaTeX hides its MathML from all but screen readers, and the theme its buttons.
    if (!texts.currentNode.data.trim() || element.closest(".katex-mathml, script, style, button")) continue;
    range.selectNodeContents(texts.currentNode);
    for (const box of range.getClientRects()) {
      const by = box.width ? cutter(box, element) : null;
      if (by) wrong.push(`cut off by ${by.tagName}.${by.className}: ` + texts.currentNode.data.trim().slice(0, 60));
    }
  }
  return wrong;
})()"""


def site_flaws(page: Page) -> list[str]:
    """Return the formulas that are not rendered, the texts that are cut off, and what the console says."""
    return [*page.value(_FORMULAS), *page.value(_LAYOUT), *page.problems]
