"""The keyword rules of the router's first layer, as a table (mission row P5). `keywords` beside it applies
them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """votes: worker type or kind → weight; a negative weight speaks against it. phrases: words in a row, separated
    by commas; a word that ends in `*` stands for all that begin so. first: only where the text begins with it."""

    name: str
    votes: Mapping[str, float]
    phrases: str
    first: bool = False


RULES = (
    # ---- what is left behind: a report, code or prose
    Rule(
        "report only",
        {"scan": 3, "implementation": -3, "documentation": -2},
        """
        no code, no changes, no change, change nothing, no fix, not fix, don t fix, do not fix, report only, only
        report, only the report, report is enough, just the list, just a list, just analysis, analysis only,
        opinion only, review only, no implementation, don t merge, do not merge
        """,
    ),
    Rule(
        "asks for findings",
        {"scan": 1.5},
        """
        tell me, tell us, give me, hand me, verdict, severity, print, in a table, one table, tabulate, list them,
        list those, and list, summarise, summarize, come back with, and report, report back, report it, report
        them, report which, report status, report mismatches, report differences, report every, report each, report
        counts, report the, report by, report per, report totals, report those, a report, output the, record every,
        record the, record whether, which ones
        """,
    ),
    Rule(
        "wants to know",
        {"scan": 2, "implementation": -1},
        """
        just need to know, only want to know, before we remove, before we change, explanation wanted, no patch,
        file issues, file new, record results, record the results, which are open, we d like to know, share your
        thoughts, your opinion
        """,
    ),
    Rule(
        "begins by looking",
        {"scan": 2.5},
        """
        check, crosscheck, verify, validate, audit, review, list, count, grep, scan, look, compare, assess,
        evaluate, estimate, survey, trace, measure, collect, inspect, triage, rank, confirm, analyse, analyze,
        analysis, inventory, stocktaking, size, sizing, scope, scoping, map, walk, crawl, extract, dump, reconcile,
        rate, judge, critique, feasibility, readiness, second opinion, code review, security review, take stock, go
        through, go over, pull, read, profile, gap analysis, qa, repeat, re, recheck, investigate, understand,
        question, quality check, release verification, feedback, anybody know, research, perform, decision,
        discovery, design review
        """,
        first=True,
    ),
    Rule(
        "asks a question",
        {"scan": 2, "research": 1.5},
        """
        why, which, what, where, who, when, how, is, are, does, do, since, warum, wieso, wo, welche, how come, can
        we, can you tell, do other, somebody
        """,
        first=True,
    ),
    Rule(
        "asks for a verdict",
        {"judgment": 2.5, "scan": 1},
        """
        is it, is our, is the, is this, are our, are the, are these, are we, should we, do we, does our, does this,
        does the, what do you think, how good, how well, would you, can we rely
        """,
        first=True,
    ),
    Rule(
        "begins by building",
        {"implementation": 2},
        """
        add, implement, build, fix, create, replace, rename, remove, delete, convert, migrate, move, refactor,
        introduce, integrate, wire, set up, upgrade, bump, port, make, support, feat, feature, bug, bugfix, hotfix,
        chore, allow, handle, show, hide, swap, drop, polish, prototype, spike, simplify, disable, enable, reduce,
        cut, users can, as a, as an, endpoint, new, try out, experiment, proof of concept, reproduce, debug, tune,
        harden, choose, pick, settle, rework, update, increase, decrease, put, turn, wrap, try, get, decide,
        improve, tidy, resolve, raise, rethink, let, shorten, restyle, find a way, translate, tweak, refine,
        balance, redesign, revamp, optimise, optimize, modernise, added, epic, ux, ui
        """,
        first=True,
    ),
    Rule(
        "user story",
        {"implementation": 2.5, "structured": 2.5},
        """
        so that i, i want to, users can, user can, acceptance criteria, ac, must be able, should be able, there
        must be
        """,
    ),
    Rule(
        "a fault or a wish",
        {"implementation": 2, "structured": 1.5},
        """
        crash, crashes, wrong, broken, does not work, doesn t work, off by one, nothing happens, should remember,
        should support, should show, should skip, should be, should see, should only, customers want, users want,
        must be, accepts, cannot, can t, must have, breaks, cut off, jumps, flickers, stutters, falls over, lost
        updates, is missing, hangs, shows up twice, a customer can, users must, feature request, would be nice,
        would be great, would be good, it would be great, it would be nice, ability to, support for, option to, i
        could, we d like, i d like, suggestion, unable, expected, does not, doesn t, ignored, null pointer,
        exception, regression, steps to reproduce, bug, error message, is shown, missing, not possible, like to
        request, can see
        """,
    ),
    Rule(
        "a fault of unknown cause",
        {"research": 2, "implementation": 1},
        """
        slow, slower, memory leak, high cpu, cpu, performance drop, drop in, timeouts, out of memory, intermittent,
        random failure, deadlock, grows, regression, sometimes, frequently, since the last, since the upgrade,
        after the upgrade, after update, after upgrade, stack traces, silently, cannot explain, can t explain,
        impossible to, for some users, for some, without clear reasons, without a clear reason, suddenly, some
        users, keeps, keep getting, started failing, fails sometimes
        """,
    ),
    Rule(
        "find and fix",
        {"implementation": 2.5, "research": 1.5, "scan": -2},
        """
        and fix, then fix, fix it, fix what, and repair, repair it, and correct, make it work, make it go away, and
        patch, and eliminate, and adapt, fix if possible, get it going, and set it up, and find a fix, sort it out,
        cure it, get to the bottom, raise it, integrate it, then cure
        """,
    ),
    Rule(
        "then acts",
        {"implementation": 2, "scan": -1.5},
        """
        and do it, and apply, apply them, apply it, and implement, implement it, implement the, and use, and
        commit, and wire, and remove, and build, build the, and change, change what, change them, and replace, and
        get, then put, and adopt, throw out, add a test, add a check, keep it if, keep if, drop them, and switch,
        switch the, refactor towards, and port, and solve, solve it, and repair, and raise, remove it, set them,
        and cut the rest, and make it, and get a
        """,
    ),
    Rule(
        "then writes",
        {"documentation": 2, "scan": -1.5},
        """
        and document, document it, document them, and describe, describe it, write what, write down, and write,
        write it, write them, and publish, put it in the, explain it in, into a page, in one page, und beschreiben,
        help article, and write that, make a page of, into the docs, write a page, write a guide, write a summary,
        write a note, summary page
        """,
    ),
    Rule(
        "code to be written",
        {"implementation": 1, "structured": 0.5},
        """
        endpoint*, button*, unit tests, e e, migration*, webhook*, component*, class, classes, refactor*, wire,
        toggle, login, middleware, index, footer, upload*, form, forms, screen, screens, import, csv, filters,
        payment, invoice, app, css, dialog, modal, dropdown, config, service, services, build, job, jobs
        """,
    ),
    Rule(
        "name of a feature",
        {"implementation": 1.5, "structured": 1, "scan": -1},
        """
        viewer, builder, widget, calculator, dashboard, picker, editor, importer, exporter, wizard, sidebar, inbox,
        board, history, tour, page for, option, shortcuts, toggle
        """,
    ),
    Rule(
        "work for others",
        {"implementation": 2, "planning": 2.5},
        """
        into specs, the specs, create specs, specs for, specs in, write specs, epic, backlog, into tickets, the
        tickets, into stories, increments, slice, slices, decompose, depends on, into tasks, task list, sprint,
        shippable, child issues, sub tasks, user stories
        """,
    ),
    Rule(
        "prose",
        {"documentation": 3, "implementation": -1},
        """
        docs, doc, documentation, readme*, changelog*, manual, handbook, guide*, tutorial*, howto, faq*, wiki,
        runbook*, article*, docstring*, javadoc, jsdoc, adr, rfc, glossary, whitepaper, blog, release notes,
        upgrade notes, help cent*, knowledge base, postmortem, doku, dokumentation, anleitung, benutzerhandbuch,
        handbuch, explainer, documented, tagline, headline, openapi, chapters, table of contents, case study, best
        practices, user manual, style guide, design doc, decision record, code of conduct, policy, docs lack, man
        page, war story, war stories, snippets, instructions, wording, write up, guidance, instruction, md
        """,
    ),
    Rule(
        "begins by writing",
        {"documentation": 3},
        """
        document, describe, write up, write about, write down, explain, proofread, draft, rewrite the landing,
        reword the, write the, write an, write a, edit, editorial, how to, guide, manual, tutorial, runbook,
        handbook, readme, changelog, release notes, announcement
        """,
        first=True,
    ),
    Rule(
        "writing",
        {"documentation": 1.5},
        """
        write up, write it up, write a page, in the docs, the page, copy, wording, prose, document, describe*,
        chapter*, pages, article, tone, section, md, and document, paragraph, examples, make a page, write that, on
        the page, page about, page on, pages on, write about, explanation, instructions, how to use
        """,
    ),
    # ---- how it is done
    Rule(
        "plan",
        {"planning": 3},
        """
        plan, planning, roadmap, milestone*, outline*, estimate*, estimation, effort, how long, how many weeks, how
        many days, sizing, size up, scope, scoping, break down, breakdown, split into, phases, stages, sequence,
        sequencing, rollout, roll out, strategy, design doc, rfc, adr, feasibility, readiness, backlog, work
        packages, concept, timeline, timetable, which order, what order, order of, the build order, an order,
        before we, before anybody, before anyone, aufwand, gliederung, decommissioning, proposal, propose,
        proposed, skeleton, architecture decision, information architecture, decision record, agenda, into specs,
        into tickets, slice, decompose, epic, hours per, rough days, sketch, schedule, draft an rfc, charter,
        technical design, data model, to be discussed, in sequence, sensible sequence, ballpark, forecast, upgrade
        path, blueprint, into pieces, work breakdown, impact analysis, variants, in parallel, cut lines, in safe
        steps, path to, how to cut, so nothing blocks, ordered by, headings, t shirt, playbook, build order, one by
        one, split this spec, in stages, stage it, what must exist first, editorial calendar, steps to remove,
        steps to introduce, steps to get, into stories, child issues, sub tasks, story points, tech design,
        governance, process, criteria, tracking issue, upgrade plan, migration plan, determine strategy, children,
        approach for
        """,
    ),
    Rule(
        "plan comes first",
        {"planning": 2.5},
        """
        plan, design, outline, estimate, size, scope, scoping, roadmap, draft, propose, break down, break,
        decompose, slice, sketch, prepare, lay out, rfc, adr, feasibility study, feasibility, strategy, define,
        assess readiness, inventory, organise, sequencing
        """,
        first=True,
    ),
    Rule(
        "judge",
        {"judgment": 2.5},
        """
        decide*, decision, choose, choice, pick, judge*, evaluate whether, critique, critical, opinion, verdict,
        rank*, triage, prioritise, prioritize, taste, tasteful, your call, weigh, trade off, trade offs,
        recommend*, sensible, severity, honest*, confusing, readable, readability, worth, is it ok, good enough,
        sanity check, prefer, proportionate, make up your mind, score, second opinion, second pair, favourite,
        judgement, judgment, go or no go, which is right, fair, appropriate, trust, entscheide*, bewerte*, rate
        each, rate the, rate every, grade, believe, opinionated, balanced, argue, would you merge, saner,
        acceptable, how good, how bad, review, reviews, feedback wanted, quality check, comment on, is outdated,
        too long, too much, hard to follow, hard to understand, misleading, maintainable, unmaintainable, poor,
        review of the, decision wanted, evaluate, security review, independent, what is the right, which is the
        right
        """,
    ),
    Rule(
        "make it better",
        {"judgment": 2},
        """
        better, best, simplify, improve, polish, tone, friendlier, clearer, clean up, cleaner, clarity, too
        crowded, less annoying, calmer, nicer, rewrite, reword, rework, tune, soften, sharpen, shorten, distil,
        tidy, voice, confuses, harden, balance, rethink, charming, less scary, less confusing, easier to read, tidy
        up, shorter, trim, refine, tweak, catchier, kindly, kinder, saner, feel right, good thresholds, less, more
        readable, redesign, ux, ui ux, usability, user experience, enhance, enhancements, optimise, optimize,
        revamp, revise, visual, polish round, modernise, modernize, overhaul, more clear, less generic, typography,
        look and feel
        """,
    ),
    Rule(
        "find out",
        {"research": 2.5},
        """
        why, cause, causes, root cause, find out, figure out, investigat*, research, spike, prototype, experiment*,
        try out, explore, look into, dig, how does, understand, unknown, nobody knows, nobody remembers, track
        down, debug, reproduce, flaky, sporadic, now and then, look up, options for, what are the options, work out
        how, work out what, benchmark, learn, reverse engineer, proof of concept, sources, references, bisect, find
        the reason, find the cause, where does, where do, what explains, understand how, trace it, culprit, since
        when, who calls, hypotheses, herausfinden, finde heraus, warum, what happens when, nobody is sure, from the
        code, read the code, actually works, really works, study, market overview, survey of, gather, what we know,
        unclear, find why, evidence, how others, reads, see if, see whether, what is going on, what s going on,
        what is the difference, what happens, nobody has an explanation, no idea why, what for, who added, how do
        others, get to the bottom, look at how, see how, evidence please, play with, mechanism, model it,
        understand why, need to understand, understand either, discovery
        """,
    ),
    Rule(
        "the same many times",
        {"bulk": 2.5, "structured": -0.5},
        """
        everywhere, in all, whole repo, whole repository, entire repo, across all, in every, all files, every file,
        all the files, each of the, mass update, all places, all uses, every use, all imports, all callers, all
        remaining, to every, to all, on every page, all docs, same change, same fix, one pattern, all pages, in
        each, for each of, all images, all links, per file, per folder, per package, all repos, all repositories,
        every todo, all functions, all public, for all, for every, all our, all components, every place, of all
        """,
    ),
    Rule(
        "counts over many",
        {"bulk": 1},
        """
        all, every, each, throughout
        """,
    ),
    Rule(
        "mechanical",
        {"bulk": 2},
        """
        rename, bump, typo, typos, spelling, grammar, trailing, formatter, unused, license header*, translate,
        translation, grep, count, capitalise, capitalisation, prefix, sort imports, outdated, deprecated,
        vulnerability scan, cve, docstrings, find and replace, alle, ersetzen, copyright, convert, minor versions,
        patch versions, dead links, broken links, copyright header*, wherever, one line each, indentation, as a
        list, cleanup, deprecations, dead code, lint, leftovers, deps, warnings
        """,
    ),
    Rule(
        "list, count, collect",
        {"bulk": 2.5, "scan": 1.5},
        """
        list all, list every, list files, count, collect the, collect all, find all, find every, grep, extract all,
        get all, print all, dump, find unused, find duplicate, find files, find images, find empty, scan all, list
        the, list which, list each, list any
        """,
        first=True,
    ),
    Rule(
        "list of",
        {"bulk": -0.5, "planning": 0.5},
        """
        list of
        """,
        first=True,
    ),
    Rule(
        "step by step",
        {"structured": 2},
        """
        step by step, steps, workflow, flow, implement, endpoint*, with tests, plus tests, and tests, verify,
        validate, matrix, checklist, integrate, feat, users can, as a user, as an, end to end, both directions,
        tutorial, installation, user manual, guide for, troubleshooting, runbook, section, release notes, changelog
        for, with examples, reference, paging, retry, admin view, notifications, quickstart, manual, guide, release
        verification, tick off, smoke, instructions, install steps, installation steps, upgrade, migrate, docs for,
        add docs, procedure
        """,
    ),
    Rule(
        "a thing to build",
        {"structured": 2, "bulk": -1},
        """
        add, implement, build, create, introduce, integrate, fix, bug, feat, feature, users can, as a, as an, new,
        document, write a guide, describe, verify, validate, check, endpoint, how to, changelog for, release notes,
        runbook, upgrade, migrate, added, move, update, show, enable, support, make, return, publish, doc, docs
        """,
        first=True,
    ),
)
