"""The style sheet of the documentation page: light and dark, readable on a phone and on paper. Used by `docs.page`."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #fcfcfb; --raised: #f4f5f3; --line: #dfe2de; --text: #1d2125; --quiet: #59626c;
  --accent: #0b5a82; --accent-soft: #e4f0f6; --post: #1f6b3a; --warn: #8a3b12; --warn-soft: #fbeee5;
  --mono: ui-monospace, "SF Mono", "Cascadia Code", "DejaVu Sans Mono", Menlo, Consolas, monospace;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #14181b; --raised: #1c2125; --line: #30373d; --text: #e4e7e9; --quiet: #a0aab3;
    --accent: #85c5e6; --accent-soft: #1b303c; --post: #8fd3a6; --warn: #f0b48d; --warn-soft: #38261b;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1.5rem; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body {
  margin: 0; background: var(--page); color: var(--text);
  font: 1rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  overflow-wrap: break-word;
}
a { color: var(--accent); text-underline-offset: .18em; text-decoration-thickness: 1px; }
a:hover { text-decoration-thickness: 2px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 3px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: 1rem; background: var(--page); padding: .5rem 1rem; z-index: 1; }
.layout { max-width: 82rem; margin: 0 auto; padding: 0 2rem; display: grid; grid-template-columns: 13.5rem minmax(0, 1fr); gap: 0 3.5rem; }
.side { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow-y: auto; padding: 2.6rem 0 2rem; font-size: .925rem; }
.brand { font-size: 1.2rem; font-weight: 650; letter-spacing: -.01em; margin: 0; }
.brand small { display: block; font-size: .8rem; font-weight: 400; color: var(--quiet); letter-spacing: 0; }
.side h2 { font-size: .78rem; font-weight: 600; color: var(--quiet); margin: 1.6rem 0 .35rem; border: 0; padding: 0; }
.side ul { list-style: none; margin: 0; padding: 0; }
.side a { display: block; padding: .17rem 0; text-decoration: none; }
.side a:hover { text-decoration: underline; }
main { padding: 2.6rem 0 4rem; min-width: 0; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.02em; margin: 0 0 .6rem; font-weight: 650; }
h2 { font-size: 1.5rem; line-height: 1.25; letter-spacing: -.015em; margin: 0; font-weight: 650; }
h3 { font-size: 1.06rem; margin: 2.2rem 0 .6rem; font-weight: 650; }
p { margin: .5rem 0; max-width: 44rem; }
.lead { color: var(--quiet); font-size: 1.06rem; }
main > section { border-top: 1px solid var(--line); margin-top: 3rem; padding-top: 2.4rem; }
code, pre { font-family: var(--mono); font-size: .875em; }
p code, td code, li code { overflow-wrap: anywhere; }
.id { color: var(--quiet); font-size: .925rem; margin: .25rem 0 0; }
.facts { display: flex; flex-wrap: wrap; gap: .9rem 2.4rem; margin: 1.2rem 0 0; }
.facts div { min-width: 5rem; }
.facts dt { font-size: .8rem; color: var(--quiet); }
.facts dd { margin: 0; }
.calls { list-style: none; margin: 1.1rem 0 0; padding: 0; }
.calls .note { margin-left: .6rem; font-size: .925rem; }
.files { display: flex; flex-wrap: wrap; gap: .35rem 1.4rem; list-style: none; margin: 1.2rem 0 0; padding: 0; }
table { border-collapse: collapse; width: 100%; font-size: .925rem; line-height: 1.45; }
th { text-align: left; font-weight: 600; font-size: .8rem; color: var(--quiet); padding: .4rem 1.1rem .4rem 0; vertical-align: bottom; white-space: nowrap; }
thead tr { border-bottom: 1px solid var(--line); }
td, tbody th { padding: .6rem 1.1rem .6rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody th { font-size: .925rem; color: inherit; white-space: normal; }
tbody th code { font-weight: 600; }
td[data-label="Meaning"] { min-width: 14rem; }
td:last-child, th:last-child { padding-right: 0; }
.note { color: var(--quiet); }
.nowrap { white-space: nowrap; }
.values { display: flex; flex-wrap: wrap; gap: .25rem; align-items: baseline; }
.values code { background: var(--raised); border-radius: 3px; padding: .02rem .32rem; }
.mark { display: inline-block; font-size: .78rem; line-height: 1.35; border-radius: 3px; padding: .06rem .4rem; background: var(--raised); color: var(--quiet); }
.mark.personal, .mark.secret { background: var(--warn-soft); color: var(--warn); }
details { border: 1px solid var(--line); border-radius: 6px; margin: .55rem 0; }
summary { cursor: pointer; padding: .5rem .9rem; font-weight: 550; font-size: .95rem; }
summary:hover { background: var(--raised); border-radius: 5px; }
details[open] > summary { border-bottom: 1px solid var(--line); border-radius: 5px 5px 0 0; }
details > .inside { padding: .35rem .9rem .8rem; }
.answer { margin: 0; padding: .55rem .95rem .4rem; font-size: .8rem; color: var(--quiet); border-top: 1px solid var(--line); max-width: none; }
pre { margin: 0; padding: .85rem .95rem; background: var(--raised); overflow: auto; max-height: 27rem; line-height: 1.5; tab-size: 2; user-select: all; -webkit-user-select: all; border-radius: 0 0 5px 5px; }
.method { font-family: var(--mono); font-size: .8rem; font-weight: 600; }
.method.post { color: var(--post); }
.method.get { color: var(--accent); }
footer { color: var(--quiet); font-size: .875rem; margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
@media (max-width: 68rem) {
  .layout { display: block; padding: 0 1.25rem; }
  .side { position: static; max-height: none; padding: 1.6rem 0 0; }
  .side h2 { margin-top: 1rem; }
  .side ul { display: flex; flex-wrap: wrap; gap: 0 1.2rem; }
  main { padding-top: 2rem; }
}
@media (max-width: 52rem) {
  h1 { font-size: 1.6rem; }
  h2 { font-size: 1.35rem; }
  .cards thead { position: absolute; left: -999rem; }
  .cards, .cards tbody, .cards tr, .cards td, .cards tbody th { display: block; width: 100%; }
  .cards tr { border-bottom: 1px solid var(--line); padding: .65rem 0; }
  .cards td, .cards tbody th { border: 0; min-width: 0; max-width: none; padding: .12rem 0; }
  .cards td[data-label] { display: grid; grid-template-columns: 6.2rem minmax(0, 1fr); gap: .6rem; }
  .cards td[data-label]::before { content: attr(data-label); color: var(--quiet); font-size: .8rem; padding-top: .1rem; }
  .cards td.empty { display: none; }
  .cards tbody th code { font-size: .95rem; }
  pre { font-size: .8rem; }
}
@media print {
  .side { display: none; }
  .layout { display: block; max-width: none; padding: 0; }
  pre { max-height: none; white-space: pre-wrap; }
}
"""
