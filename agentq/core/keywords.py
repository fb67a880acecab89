"""The router's first layer (mission row P5): words that say what kind of work a text asks for.

Rules are data. A rule is a handful of phrases and its votes; phrases are words in a row, compared with the words of
the text one by one. There are no regular expressions behind them, so that no text takes long.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

TYPES = ("scan", "implementation", "documentation")
KINDS = ("planning", "judgment", "structured", "research", "bulk")
MAX_CHARACTERS, MAX_WORDS = 8000, 300  # what a text says first is what it is about
_WORD = re.compile(r"[^\W\d_]+|\d{1,9}")
# Words before the one that counts: "please list …", "chore: rename …", "[QA] check …".
_FILLERS = frozenset("please pls can could you we i need want to the a an quick quickly also just then now bitte".split())


@dataclass(frozen=True, slots=True)
class Rule:
    """votes: worker type or kind → weight; a negative weight speaks against it. phrases: separated by commas; a word
    that ends in `*` stands for all that begin so. first: only where the text begins with it."""

    name: str
    votes: Mapping[str, float]
    phrases: str
    first: bool = False


RULES = (
    # ---- what is left behind: a report, code, prose
    Rule(
        "report only",
        {"scan": 3, "implementation": -3, "documentation": -2},
        "no code, no changes, no change, change nothing, no fix, no fixes, not fix, don t fix, do not fix, dont fix, "
        "report only, only report, only the report, report is enough, just the list, just a list, just analysis, "
        "analysis only, opinion only, review only, read only, no implementation, don t merge, do not merge, dry run",
    ),
    Rule(
        "asks for findings",
        {"scan": 1.5},
        "report, report back, tell me, tell us, give me, hand me, output, findings, verdict, severity, print, in a table, one table, "
        "tabulate, list them, list those, and list, summarise, summarize, come back with",
    ),
    Rule(
        "begins by looking",
        {"scan": 2.5},
        "check, crosscheck, verify, validate, audit, review, list, count, grep, scan, look, compare, assess, evaluate, "
        "estimate, survey, trace, measure, collect, inspect, triage, rank, confirm, analyse, analyze, analysis, inventory, "
        "stocktaking, size, sizing, scope, scoping, map, walk, crawl, extract, dump, reconcile, rate, judge, critique, "
        "feasibility, readiness, second opinion, code review, security review, take stock, go through, go over, pull, "
        "read, profile, gap analysis",
        first=True,
    ),
    Rule("asks a question", {"scan": 2, "research": 1}, "why, which, what, where, who, when, how, is, are, does, do, since, "
         "warum, wieso, wo, welche", first=True),
    Rule(
        "begins by building",
        {"implementation": 2},
        "add, implement, build, fix, create, replace, rename, remove, delete, convert, migrate, move, refactor, introduce, "
        "integrate, wire, set up, upgrade, bump, port, make, support, feat, feature, bug, bugfix, hotfix, chore, refactor, "
        "allow, handle, show, hide, swap, drop, polish, prototype, spike, simplify, disable, enable, reduce, cut, "
        "users can, as a, as an, endpoint, new, try out, experiment, proof of concept, reproduce, debug, tune, harden, "
        "choose, pick, settle, rework",
        first=True,
    ),
    Rule("user story", {"implementation": 2.5, "structured": 2.5}, "so that i, i want to, users can, user can, "
         "acceptance criteria, ac, must be able, should be able, it should, must not, there must be"),
    Rule("find and fix", {"implementation": 2.5, "research": 1.5, "scan": -2}, "and fix, then fix, fix it, fix what, "
         "and repair, repair it, and correct, make it work, make it go away, and patch, and eliminate, and adapt, "
         "fix if possible, get it going, and set it up, und repariere, and find a fix"),
    Rule("then acts", {"implementation": 2, "scan": -1.5}, "and do it, and apply, apply them, apply it, and implement, "
         "implement it, implement the, and use, and commit, and wire, and remove, remove the, delete the, and build, "
         "build the, and change, change what, change them, and replace, and make, and get, then put, and adopt, throw out, "
         "add a test, add a check, keep it if, keep if, drop them, and switch, switch the, refactor towards, and port"),
    Rule("then writes", {"documentation": 2, "scan": -1.5}, "and document, document it, document them, and describe, describe it, "
         "write what, write down, and write, write a, write it, write them, and publish, put it in the, explain it in, "
         "into a page, in one page, a note for, und beschreiben, findings page, help article"),
    Rule("code to be written", {"implementation": 1}, "endpoint*, button*, field, form, unit tests, e e, migration*, webhook*, "
         "component*, class, classes, refactor*, wire, toggle, login, middleware, index, footer, upload*"),
    Rule("work for others", {"implementation": 2, "planning": 2.5}, "into specs, the specs, create specs, specs for, specs in, "
         "write specs, epic, backlog, into tickets, the tickets, tickets agents, into stories, stories, increments, slice, "
         "slices, decompose, depends on, into tasks, task list, sprint, work on it in parallel, can start, shippable"),
    Rule(
        "prose",
        {"documentation": 3, "implementation": -1},
        "docs, doc, documentation, readme*, changelog*, manual, handbook, guide*, tutorial*, howto, how to, faq*, wiki, "
        "runbook*, article*, docstring*, javadoc, jsdoc, adr, rfc, glossary, whitepaper, blog, release notes, upgrade notes, "
        "help cent*, knowledge base, postmortem, doku, dokumentation, anleitung, benutzerhandbuch, handbuch, explainer, "
        "documented, tagline, headline, openapi, chapters, table of contents, case study, best practices, user manual, "
        "style guide, design doc, decision record, roadmap document, landing page text",
    ),
    Rule("begins by writing", {"documentation": 3}, "document, describe, write up, write about, write down, explain, "
         "translate the user, proofread, draft, outline for, rewrite the landing, reword the, write the, write an, "
         "write a, comments for, edit, editorial", first=True),
    Rule("writing", {"documentation": 1.5}, "write up, write it up, write a page, a page, in the docs, the page, copy, wording, "
         "prose, document, describe*, chapter*, pages, article, texts, text, tone, section, md, and document, paragraph, "
         "examples"),
    # ---- how it is done
    Rule(
        "plan",
        {"planning": 3},
        "plan, planning, roadmap, milestone*, outline*, estimate*, estimation, effort, how long, how many weeks, "
        "how many days, sizing, size up, scope, scoping, break down, breakdown, split into, phases, stages, sequence, "
        "sequencing, rollout, roll out, strategy, design doc, rfc, adr, feasibility, readiness, backlog, work packages, "
        "concept, timeline, timetable, which order, what order, order of, the build order, an order, before we, before anybody, before anyone, "
        "aufwand, gliederung, decommissioning, proposal, propose, proposed, skeleton, architecture decision, "
        "information architecture, decision record, agenda, into specs, into tickets, slice, decompose, epic, stories, hours per, "
        "rough days, plan für, sketch, schedule, draft an rfc, charter, technical design, data model, to be discussed",
    ),
    Rule("plan comes first", {"planning": 2.5}, "plan, design, outline, estimate, size, scope, scoping, roadmap, draft, propose, "
         "break down, break, decompose, slice, sketch, prepare, lay out, rfc, adr, feasibility study, feasibility, "
         "strategy, define, assess readiness, inventory, organise, sequencing", first=True),
    Rule(
        "judge",
        {"judgment": 2.5},
        "review*, decide*, decision, choose, choice, pick, judge*, evaluate whether, critique, critical, opinion, verdict, "
        "rate, rank*, triage, prioritise, prioritize, taste, tasteful, your call, weigh, trade off, trade offs, recommend*, "
        "sensible, severity, honest*, confusing, readable, readability, worth, is it ok, good enough, sanity check, prefer, "
        "proportionate, make up your mind, score, second opinion, second pair, favourite, judgement, judgment, go or no go, "
        "which is right, fair, appropriate, trust, entscheide*, bewerte*",
    ),
    Rule("make it better", {"judgment": 2}, "better, best, simplify, improve, polish, tone, friendlier, clearer, "
         "clean up, cleaner, clarity, too crowded, less annoying, calmer, nicer, rewrite, reword, rework, tune, soften, "
         "sharpen, shorten, distil, tidy, cut the, voice, confuses, harden, balance", first=False),
    Rule(
        "find out",
        {"research": 2.5},
        "why, cause, causes, root cause, find out, figure out, investigat*, invesitgate, research, spike, prototype, "
        "experiment*, try out, explore, look into, dig, how does, understand, unknown, nobody knows, nobody remembers, "
        "track down, debug, reproduce, flaky, sporadic, now and then, look up, options for, what are the options, "
        "work out how, work out what, benchmark, learn, reverse engineer, proof of concept, sources, references, bisect, "
        "find the reason, find the cause, where does, where do, what explains, understand how, trace it, culprit, "
        "since when, who calls, hypotheses, herausfinden, finde heraus, warum, how competitors, what happens when, "
        "nobody is sure, from the code, read the code, actually works, really works, study, market overview, survey of, "
        "gather, what we know, unclear, find why, evidence, compare the hosting, how others, reads",
    ),
    Rule(
        "the same many times",
        {"bulk": 2.5, "structured": -0.5},
        "everywhere, throughout, in all, whole repo, whole repository, entire repo, across all, in every, all files, every file, "
        "all the files, each of the, mass update, all places, all uses, every use, all imports, all callers, all remaining, "
        "to every, to all, on every page, all docs, same change, same fix, one pattern, all pages, in each, for each of, "
        "all images, all links, per file, per folder, per package, all repos, all repositories, every todo, all functions, "
        "all public, for all, for every, all our, all components, every place, of all",
    ),
    Rule("mechanical", {"bulk": 2}, "rename, bump, typo, typos, spelling, grammar, trailing, formatter, unused, headers, "
         "license header*, translate, translation, grep, count, capitalise, capitalisation, prefix, sort imports, outdated, "
         "deprecated, vulnerability scan, cve, docstrings, find and replace, alle, ersetzen, copyright, convert, "
         "minor versions, patch versions, dead links, broken links", first=False),
    Rule("list, count, collect", {"bulk": 2.5, "scan": 1.5}, "list all, list every, list files, list public, list outdated, "
         "list, count, collect the, collect all, find all, find every, grep, extract all, get all, print all, dump, "
         "find unused, find duplicate, find files, find images, find empty, scan all, find screenshots", first=True),
    Rule(
        "step by step",
        {"structured": 2},
        "step by step, steps, workflow, flow, implement, endpoint*, with tests, plus tests, and tests, verify, validate, "
        "matrix, checklist, integrate, feat, feature, users can, as a user, as an, end to end, both directions, tutorial, "
        "installation, user manual, guide for, troubleshooting, runbook, section, release notes, changelog for, "
        "with examples, how to, reference, paging, retry, admin view, notifications",
    ),
    Rule("a thing to build", {"structured": 2, "bulk": -1}, "add, implement, build, create, introduce, integrate, fix, bug, "
         "feat, feature, users can, as a, as an, new, document, write a guide, describe, tutorial, verify, validate, check, "
         "endpoint, how to, changelog, changelog for, release notes, runbook", first=True),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that applies, and the phrase it applies by."""

    rule: Rule
    phrase: str


def words(text: str) -> list[str]:
    """The words of `text` as rules and the classifier see them: letters in lower case, a number as digits."""
    return _WORD.findall(text[:MAX_CHARACTERS].lower())[:MAX_WORDS]


def hits(said: Sequence[str]) -> list[Hit]:
    """The rules that apply to the words of a text, in the order of the table; each once. Linear in the words."""
    begin = next((i for i, word in enumerate(said) if word not in _FILLERS), 0)
    found: dict[int, str] = {}
    for i, word in enumerate(said):
        for number, rest, phrase in _candidates(word):
            if number in found or (RULES[number].first and i != begin):
                continue
            if not rest or _continues(said, i + 1, rest):
                found[number] = phrase
    return [Hit(RULES[number], found[number]) for number in sorted(found)]


def votes(found: Sequence[Hit]) -> dict[str, float]:
    """Worker types and kinds → the sum of what the rules say."""
    total = dict.fromkeys(TYPES + KINDS, 0.0)
    for hit in found:
        for label, weight in hit.rule.votes.items():
            total[label] += weight
    return total


_Phrase = tuple[int, tuple[str, ...], str]  # number of its rule, words after the first, the phrase


def _index() -> tuple[dict[str, list[_Phrase]], dict[str, list[_Phrase]], tuple[int, ...]]:
    exact: dict[str, list[_Phrase]] = {}
    begins: dict[str, list[_Phrase]] = {}
    for number, rule in enumerate(RULES):
        for phrase in rule.phrases.split(","):
            head, *rest = phrase.split()
            table = begins if head.endswith("*") else exact
            table.setdefault(head.rstrip("*"), []).append((number, tuple(rest), " ".join([head, *rest])))
    return exact, begins, tuple(sorted({len(head) for head in begins}))


_EXACT, _BEGINS, _LENGTHS = _index()


def _candidates(word: str) -> Iterator[_Phrase]:
    yield from _EXACT.get(word, ())
    for length in _LENGTHS:
        if length > len(word):
            break
        yield from _BEGINS.get(word[:length], ())


def _continues(said: Sequence[str], start: int, rest: tuple[str, ...]) -> bool:
    """Whether the words from `start` on are `rest`."""
    if start + len(rest) > len(said):
        return False
    return all(
        word.startswith(wanted[:-1]) if wanted.endswith("*") else word == wanted
        for word, wanted in zip(said[start:], rest, strict=False)
    )
