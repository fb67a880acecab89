"""Which worker, which model, how many at once (mission rows P5, P11, N6)."""

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.core.models import Bucket, Models, Tier
from agentq.core.routes import keywords, opinion
from agentq.core.routes.classify import LABELS, Classifier, from_json
from agentq.core.routes.decide import decide
from agentq.core.routes.guess import BANDS, KINDS, TYPES, Guess, band, shares
from agentq.core.routes.opinion import Opinion
from agentq.core.routes.rules import RULES
from agentq.core.routes.size import Hints, complexity
from agentq.core.routes.tiers import chain, merged
from agentq.core.text import clean
from agentq.core.usage import Price
from agentq.errors import UserError

SURE, UNSURE = 0.97, 0.5


def tier(name: str, price: float, strength: int) -> Tier:
    return Tier(name, "b", name, Price(price, price * 5), strength=strength)


TIERS = {
    one.name: one
    for one in (tier("opus", 4, 30), tier("sonnet", 2, 20), tier("haiku", 0.1, 10), tier("titan", 40, 99))
}
MODELS = Models(
    buckets={"b": Bucket("b")},
    tiers=TIERS,
    routes={
        "planning": ("opus", "sonnet"),
        "judgment": ("sonnet", "opus"),
        "structured": ("sonnet", "opus", "haiku"),
        "research": ("sonnet", "haiku"),
        "bulk": ("haiku", "sonnet"),
        "hard-review": ("titan", "opus"),
    },
)


def a_guess(type_share=SURE, kind_share=SURE, *, type="scan", kind="research", size=5.0) -> Guess:
    """The named labels with their shares; the others share the rest."""
    types = {one: (1 - type_share) / (len(TYPES) - 1) for one in TYPES} | {type: type_share}
    kinds = {one: (1 - kind_share) / (len(KINDS) - 1) for one in KINDS} | {kind: kind_share}
    return Guess(types, kinds, size)


def classify(guess: Guess):
    return lambda _reading: guess


def route(text="zzz", guess=None, models=MODELS, **more):
    """A decision about words that no rule knows, so that the classifier alone speaks."""
    return decide(text, models=models, classify=classify(guess or a_guess()), **more)


# ---------------------------------------------------------------- only by name (row N6)

NAMES = st.sampled_from(
    ["hard-review", "hard review", "titan", "use titan for hard-review, please", "kind: hard-review"]
)


@given(
    st.lists(st.one_of(st.text(max_size=40), NAMES, st.sampled_from([r.phrases for r in RULES])), max_size=6),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([None, "scan", "hard-review", "titan"]),
    st.one_of(
        st.none(),
        st.builds(
            Opinion,
            st.sampled_from(TYPES),
            st.sampled_from((*KINDS, "hard-review")),
            st.integers(1, 10),
            st.floats(0, 1),
        ),
    ),
    st.floats(0, 100),
)
def test_no_text_whatever_routes_to_what_is_used_only_by_name(parts, first, second, worker, answer, hours):
    decided = route(
        " ".join(parts),
        a_guess(first, second, size=1 + 9 * first),
        type=worker,
        consult=(lambda _text: answer) if answer else None,
        hints=Hints(estimate_hours=hours),
    )
    assert decided.kind in KINDS and decided.tiers
    assert {one.kind for one in decided.experts} <= set(KINDS)
    assert "titan" not in decided.tiers and "titan" not in {one.tier for one in decided.experts}


def test_it_is_chosen_by_name_with_all_its_tiers_and_nothing_else():
    decided = route(kind="hard-review", type="scan")
    assert (decided.kind, decided.tiers, decided.strategy, decided.layer) == (
        "hard-review",
        ("titan", "opus"),
        "one",
        "caller",
    )
    unsure = route(guess=a_guess(UNSURE, UNSURE), kind="hard-review")  # of its worker type nobody is sure
    assert (unsure.kind, unsure.tiers, unsure.strategy) == ("hard-review", ("titan", "opus"), "safe")
    both = route(guess=a_guess(0.7), kind="hard-review")
    assert both.strategy == "parallel" and {one.kind for one in both.experts} == {"hard-review"}
    assert {one.tier for one in both.experts} == {"titan"} and len({one.type for one in both.experts}) == len(
        both.experts
    )


def test_a_kind_that_a_person_made_explicit_is_not_guessed_either():
    models = Models(MODELS.buckets, TIERS, MODELS.routes, explicit=("hard-review", "research", "opus"))
    decided = route(guess=a_guess(kind="research"), models=models)
    assert decided.kind != "research" and "opus" not in decided.tiers
    said = route(
        guess=a_guess(UNSURE, UNSURE), models=models, consult=lambda _: Opinion("scan", "research", 5, 0.9)
    )
    assert said.kind != "research" and said.strategy == "safe"
    assert any("only a person may name" in reason for reason in said.reasons)
    with pytest.raises(UserError, match="only by name"):
        route(models=Models(explicit=KINDS))


def test_a_name_that_is_not_there_is_refused_with_what_is():
    with pytest.raises(UserError) as caught:
        route(kind="hard-reviews")
    assert "hard-review" in caught.value.hint
    with pytest.raises(UserError, match="no tiers are set for hard-review"):
        route(kind="hard-review", models=Models(tiers=TIERS, routes={"bulk": ("haiku",)}))


# ---------------------------------------------------------------- tiers (row P11)


@given(st.integers(1, 10), st.sampled_from(KINDS))
def test_under_four_the_cheapest_else_the_strongest_goes_first(size, kind):
    tiers, why = chain(MODELS, kind, size)
    assert sorted(tiers) == sorted(MODELS.routes[kind])  # a chain is what the route names, all of it
    wanted = min if size < 4 else max
    key = (lambda name: TIERS[name].price.input) if size < 4 else (lambda name: TIERS[name].strength)
    assert tiers[0] == wanted(tiers, key=key)
    assert tiers[0] in why[-1]


def test_of_equally_strong_tiers_the_route_says_which_is_first():
    tiers = {name: Tier(name, "b", name) for name in ("x", "y", "z")}
    models = Models(tiers=tiers, routes={"bulk": ("y", "z", "x")})
    assert chain(models, "bulk", 9)[0] == chain(models, "bulk", 1)[0] == ("y", "z", "x")


def test_a_price_counts_what_an_agent_really_asks_for():
    cached = Tier("cached", "b", "m", Price(3, 3, cache_read=0.0))
    plain = Tier("plain", "b", "m", Price(2, 2, cache_read=1.0))
    models = Models(tiers={"cached": cached, "plain": plain}, routes={"bulk": ("plain", "cached")})
    assert chain(models, "bulk", 1)[0] == ("cached", "plain")


def test_a_kind_without_a_route_takes_another_and_says_so():
    models = Models(tiers=TIERS, routes={"judgment": ("opus",), "bulk": ("nowhere",), "hard-review": ("titan",)})
    tiers, why = chain(models, "bulk", 5)
    assert tiers == ("opus",) and why[0] == "there is no route for bulk: it takes that of judgment"
    named = Models(
        tiers=TIERS, routes={"structured": ("titan",), "research": ("haiku",)}, explicit=("structured",)
    )
    assert chain(named, "bulk", 5)[0] == ("haiku",)
    nothing = route(models=Models())
    assert (nothing.tiers, nothing.tier, nothing.strategy) == ((), "", "one")
    assert nothing.reasons[-1] == "no tiers are set for it: the agent's own model"
    only_by_name = Models(tiers=TIERS, routes={"hard-review": ("titan",)})
    assert route(models=only_by_name).tiers == merged(only_by_name, ["bulk", "research"], 5)[0] == ()


# ---------------------------------------------------------------- one, several, safe (row P5)


@pytest.mark.parametrize(
    ("confidence", "strategy"),
    [(0.81, "one"), (0.8, "parallel"), (0.61, "parallel"), (0.6, "safe"), (0.3, "safe")],
)
def test_how_sure_it_is_says_how_many_work_on_it(confidence, strategy):
    decided = route(guess=a_guess(kind_share=confidence), type="scan")
    assert decided.strategy == strategy and math.isclose(decided.confidence, confidence)
    assert len(decided.experts) in ((2, 3) if strategy == "parallel" else (1,))
    assert decided.experts[0].tier == decided.tier


@given(st.floats(0.601, 0.8), st.sampled_from(TYPES), st.sampled_from(KINDS), st.floats(1, 10))
def test_experts_in_parallel_differ_and_are_named(share, worker, kind, size):
    decided = route(guess=a_guess(share**0.5, share**0.5, type=worker, kind=kind, size=size))
    assert decided.strategy == "parallel" and len(decided.experts) in (2, 3)
    assert len({(one.type, one.tier) for one in decided.experts}) == len(decided.experts)
    assert [one.share for one in decided.experts] == sorted((one.share for one in decided.experts), reverse=True)
    for one in decided.experts:
        assert f"{one.type}, {one.kind} on {one.tier}" in decided.reasons[-1]
        assert one.tier in MODELS.routes[one.kind]


def test_two_are_enough_if_they_are_likely_enough():
    guess = Guess({"scan": 1.0}, {"research": 0.7, "bulk": 0.25, "judgment": 0.05}, 5)
    assert [one.kind for one in route(guess=guess, type="scan").experts] == ["research", "bulk"]
    guess = Guess(
        {"scan": 1.0}, {"research": 0.65, "bulk": 0.1, "judgment": 0.1, "planning": 0.08, "structured": 0.07}, 5
    )
    assert len(route(guess=guess, type="scan").experts) == 3


def test_one_tier_alone_makes_no_two_experts():
    models = Models(tiers=TIERS, routes=dict.fromkeys(KINDS, ("sonnet",)))
    decided = route(guess=a_guess(kind_share=0.7), models=models, type="scan")
    assert decided.strategy == "one" and len(decided.experts) == 1


def test_when_nobody_is_sure_the_strongest_of_all_that_it_may_be_goes_first():
    guess = Guess(
        {"scan": 0.4, "implementation": 0.35, "documentation": 0.25},
        {"bulk": 0.5, "planning": 0.4, "research": 0.1},
        1,
    )
    decided = route(guess=guess)
    assert (decided.strategy, decided.type, decided.kind) == ("safe", "implementation", "bulk")
    assert decided.tiers == ("opus", "sonnet", "haiku") and decided.complexity == 1
    assert any("no model to ask" in reason for reason in decided.reasons)
    assert route(guess=guess, type="scan").type == "scan"


# ---------------------------------------------------------------- the third layer


def test_a_model_is_asked_only_if_both_others_are_unsure():
    asked = []

    def consult(text):
        asked.append(text)
        return Opinion("documentation", "bulk", 2, 0.9)

    assert route(consult=consult).layer == "classifier" and not asked
    assert (
        route("rename it everywhere, whole repo", type="scan", consult=consult).layer == "keywords" and not asked
    )
    decided = route("zzz", a_guess(UNSURE, UNSURE), consult=consult)
    assert asked == ["zzz"]
    assert (decided.layer, decided.type, decided.kind, decided.tier) == ("model", "documentation", "bulk", "haiku")
    assert (decided.complexity, decided.strategy) == (2, "one")


def test_what_is_given_stands_against_a_model_too():
    consult = lambda _: Opinion("documentation", "bulk", 2, 0.9)  # noqa: E731
    assert route(guess=a_guess(UNSURE, UNSURE), type="scan", consult=consult).type == "scan"
    assert route(guess=a_guess(UNSURE, UNSURE), kind="planning", consult=consult).kind == "planning"
    assert route(guess=a_guess(UNSURE, UNSURE), type="migration", kind="bulk", consult=consult).type == "migration"


@pytest.mark.parametrize(("confidence", "strategy"), [(0.9, "one"), (0.7, "parallel"), (0.6, "safe")])
def test_an_opinion_is_as_good_as_it_says(confidence, strategy):
    decided = route(guess=a_guess(UNSURE, UNSURE), consult=lambda _: Opinion("scan", "planning", 7, confidence))
    assert decided.strategy == strategy
    assert decided.kind == ("research" if strategy == "safe" else "planning")
    assert math.isclose(sum(shares({"a": 1.0, "b": 2.0}).values()), 1)


def test_without_an_answer_the_classifier_is_taken_and_it_says_why():
    decided = route(guess=a_guess(0.7, UNSURE), consult=lambda _: "it is asleep")
    assert (decided.type, decided.kind, decided.layer, decided.strategy) == (
        "scan",
        "research",
        "classifier",
        "safe",
    )
    assert "it is asleep: the safe choice is made" in decided.reasons


# ---------------------------------------------------------------- complexity


@pytest.mark.parametrize(
    ("by_words", "hints", "kind", "expected"),
    [
        (5.0, Hints(), "bulk", 5),
        (2.0, Hints(), "bulk", 2),
        (5.0, Hints(estimate_hours=0.5), "structured", 2),
        (2.0, Hints(estimate_hours=4.5), "structured", 4),
        (8.0, Hints(estimate_hours=40), "structured", 9),
        (5.0, Hints(files=("a",) * 7), "structured", 6),
        (5.0, Hints(files=("src/**", "lib/*.py", "t?", "w", "x", "y", "z")), "structured", 7),
        (2.0, Hints(files=("a",) * 40), "bulk", 2),
        (5.0, Hints(depends_on=("a", "b", "c", "d")), "structured", 6),
        (8.0, Hints(("**",) * 9, ("a",) * 9, 99), "planning", 10),
        (1.0, Hints(estimate_hours=0.01), "planning", 1),
    ],
)
def test_complexity(by_words, hints, kind, expected):
    value, why = complexity(by_words, hints, kind)
    assert value == expected
    assert len(why) == 1 + bool(hints.estimate_hours) + (value > by_words and bool(hints.files)) + (
        len(hints.depends_on) > 3
    )


def test_a_longer_estimate_never_makes_it_simpler():
    sizes = [complexity(5.0, Hints(estimate_hours=hours / 4), "structured")[0] for hours in range(1, 200)]
    assert sizes == sorted(sizes) and (sizes[0], sizes[-1]) == (2, 8)
    assert [band(size) for size in (1, 3, 4, 6, 7, 10)] == [BANDS[0]] * 2 + [BANDS[1]] * 2 + [BANDS[2]] * 2


# ---------------------------------------------------------------- the first layer


@pytest.mark.parametrize(
    ("text", "worker", "kind"),
    [
        ("rename user_id everywhere, whole repo", "implementation", "bulk"),
        ("list all files that import the old logger", "scan", "bulk"),
        ("Why does it crash now and then? find the cause and fix it", "implementation", "research"),
        ("Plan the rollout, split into specs", "implementation", "planning"),
        (
            "As a user I want to export, so that I can share. Acceptance criteria: with tests",
            "implementation",
            "structured",
        ),
        ("Review the code, give me a verdict with severity, no changes", "scan", "judgment"),
        ("fix typos in the readme, everywhere", "documentation", "bulk"),
        ("RENAME IT EVERYWHERE", "implementation", "bulk"),
    ],
)
def test_rules(text, worker, kind):
    guess = keywords.guess(keywords.read(text))
    assert max(guess.types, key=guess.types.__getitem__) == worker
    assert max(guess.kinds, key=guess.kinds.__getitem__) == kind


def test_a_rule_can_speak_against():
    plain, only = (
        keywords.guess(keywords.read("fix the form")),
        keywords.guess(keywords.read("fix the form, no changes")),
    )
    assert only.types["implementation"] < plain.types["implementation"] / 10
    assert only.types["scan"] > plain.types["scan"]


def test_some_words_count_only_where_the_text_begins():
    def names(text: str) -> set[str]:
        return {hit.rule.name for hit in keywords.read(text).hits}

    assert "begins by looking" in names("check the form") & names("please check it") & names("we need to check it")
    assert "begins by looking" not in names("the form has a check")


def test_a_phrase_is_words_in_a_row():
    def phrases(text: str) -> set[str]:
        return {hit.phrase for hit in keywords.read(text).hits}

    assert "step by step" in phrases("do it step-by-step")
    assert "step by step" not in phrases("step by a step") | phrases("step by")
    assert "investigat*" in phrases("then investigating") and "investigat*" not in phrases("then investiga")


def test_where_no_rule_speaks_nothing_is_likelier():
    for text in ("", "zzz", "\x00\ud800", "😀"):
        guess = keywords.guess(keywords.read(text))
        assert set(guess.types.values()) == {1 / len(TYPES)} and len(set(guess.kinds.values())) == 1


def test_the_table_of_rules_is_sound():
    assert len({rule.name for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.votes.keys() <= {*TYPES, *KINDS} and all(rule.votes.values())
        for phrase in rule.phrases.split(","):
            said = keywords.read(phrase.replace("*", "x")).words
            assert said == tuple(word.replace("*", "x") for word in phrase.split()), phrase
            assert all(word.count("*") <= word.endswith("*") for word in phrase.split()), phrase


@pytest.mark.parametrize(
    "text", ["a " * 500_000, "a" * 1_000_000, "step by " * 100_000, "9" * 1_000_000, "é\u0301" * 300_000]
)
def test_no_text_takes_long(text):
    begun = time.monotonic()
    reading = keywords.read(text)
    assert time.monotonic() - begun < 1
    assert len(reading.words) <= keywords.MAX_WORDS and sum(map(len, reading.words)) <= keywords.MAX_CHARACTERS


# ---------------------------------------------------------------- reasons


@given(st.text(), st.sampled_from([r.phrases for r in RULES]), st.floats(0, 1))
def test_reasons_are_sentences_and_hold_nothing_of_the_text(text, phrases, share):
    decided = decide(
        f"{phrases} \x1b[31m qqsecretqq {text}", models=MODELS, classify=classify(a_guess(share, share))
    )
    said = " ".join(decided.reasons)
    assert "qqsecretqq" not in said and clean(said) == said
    assert f"{decided.confidence:.0%} sure" in said
    assert json.loads(json.dumps(decided.to_json()))["tier"] == decided.tier


def test_reasons_say_what_was_given_and_which_words_spoke():
    decided = decide("rename it everywhere, whole repo", models=MODELS, classify=classify(a_guess()), type="scan")
    assert decided.reasons[0] == "its type is given: scan"
    assert "“everywhere”" in decided.reasons[1] and "bulk" in decided.reasons[1]
    assert "hard-review is asked for by name" in route(kind="hard-review").reasons


# ---------------------------------------------------------------- question and answer

GOOD = {"type": "scan", "kind": "bulk", "complexity": 3, "confidence": 0.7}


@given(st.text(max_size=5000))
def test_the_text_is_one_json_string_in_the_question(text):
    lines = opinion.question(text).split("\n")
    at = lines.index("DESCRIPTION")
    assert json.loads(lines[at + 1]) == clean(text)[: opinion.MAX_TEXT]
    assert lines[at + 2] == "" and lines[at + 3].startswith("Answer with one JSON object")
    assert len(lines) == len(opinion.question("").split("\n"))


@pytest.mark.parametrize("wrapped", ["{}", "  {}\n", "```json\n{}\n```", "```\n{}\n```"])
def test_an_answer_is_one_object(wrapped):
    assert opinion.parse(wrapped.replace("{}", json.dumps(GOOD))) == Opinion("scan", "bulk", 3, 0.7)


@pytest.mark.parametrize(
    "answer",
    [
        "", "scan", "[]", "null", "{}", f"Sure! {json.dumps(GOOD)}", json.dumps(GOOD) * 2, "[" * 1900,
        json.dumps(GOOD) + " " * 2000, json.dumps([GOOD]), json.dumps(GOOD).replace("0.7", "NaN"),
        json.dumps(GOOD).replace("0.7", "1e999"), json.dumps(GOOD).replace("0.7", '0.7, "kind": "planning"'),
        *(json.dumps(GOOD | change) for change in (
            {"kind": "hard-review"}, {"kind": "titan"}, {"kind": ["bulk"]}, {"type": "admin"}, {"type": None},
            {"complexity": 0}, {"complexity": 11}, {"complexity": 3.0}, {"complexity": True}, {"complexity": "3"},
            {"confidence": 1.01}, {"confidence": -0.1}, {"confidence": True}, {"confidence": "high"}, {"tier": "titan"},
        )),
        json.dumps({key: GOOD[key] for key in ("type", "kind", "complexity")}),
    ],
)  # fmt: skip
def test_anything_else_is_no_answer(answer):
    with pytest.raises(ValueError):
        opinion.parse(answer)


def test_the_question_names_every_label_that_an_answer_may_have():
    assert tuple(opinion.ABOUT_TYPES) == TYPES and tuple(opinion.ABOUT_KINDS) == KINDS
    assert "hard-review" not in opinion.question("x")


# ---------------------------------------------------------------- the second layer

ROW = [0] * len(LABELS)


def test_a_classifier_adds_what_it_knows_and_ignores_the_rest():
    row = [100 * (label in ("documentation", "planning", "large")) for label in LABELS]
    guess = Classifier(tuple(ROW), {"qwerty": tuple(row), "0": tuple(row)})(keywords.read("Qwerty 17 asdf"))
    assert max(guess.types, key=guess.types.__getitem__) == "documentation"
    assert max(guess.kinds, key=guess.kinds.__getitem__) == "planning"
    assert math.isclose(guess.types["documentation"], math.exp(2) / (math.exp(2) + 2)) and guess.complexity > 5
    assert math.isclose(guess.confidence(None, None), guess.types["documentation"] * guess.kinds["planning"])
    assert guess.confidence("x", "y") == 1 and guess.confidence("x", None) == guess.kinds["planning"]


@pytest.mark.parametrize(
    "document",
    [
        None, [], {}, {"format": 2, "labels": list(LABELS), "prior": ROW, "weights": {}},
        {"format": 1, "labels": [*LABELS[1:], LABELS[0]], "prior": ROW, "weights": {}},
        {"format": 1, "labels": list(LABELS), "prior": ROW[1:], "weights": {}},
        {"format": 1, "labels": list(LABELS), "prior": ROW, "weights": {"a": [*ROW, 1]}},
        {"format": 1, "labels": list(LABELS), "prior": ROW, "weights": {"a": [0.5, *ROW[1:]]}},
        {"format": 1, "labels": list(LABELS), "prior": ROW, "weights": [ROW]},
    ],
)  # fmt: skip
def test_what_is_no_classifier_is_not_taken_for_one(document):
    with pytest.raises(ValueError):
        from_json(document)
