"""Labelled examples for the router, and what is learned from them.

`examples.jsonl` is what the classifier learns from, `held_out.jsonl` is for measuring alone: nobody looks at it
while rules or examples are changed. One JSON object on a line: type, kind, complexity (1 to 10), text. How they
are labelled:

- type, by what is left behind: `scan` a finding or a report; `documentation` prose for readers, a plan too if it
  is a document (an RFC, a roadmap page); `implementation` code, configuration or specs for it.
- kind, by how it is done: `planning` what to do, in which order; `judgment` weighs, rates, chooses, makes better
  where nobody can say what better is; `research` finds out what nobody here knows; `bulk` one simple thing many
  times; `structured` steps to a known end, and all else.
- complexity, by how much has to be right at once: 1 to 3 one place, or mechanical; 4 to 6 half a day, several
  parts; 7 to 10 touches everything, runs at the same time as something, may lose data or trust.
"""
