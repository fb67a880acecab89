"""[bucket.NAME], [tier.NAME] and [route] of agents/config.toml."""

from pathlib import Path

import pytest

from agentq.config import load, policy
from agentq.core import model_settings
from agentq.core.models import Bucket, Models, Tier
from agentq.core.usage import Price, Usage
from agentq.errors import ConfigError

TEXT = """\
[bucket.anthropic]
servers = ["http://127.0.0.1:1", "http://127.0.0.1:2/v1"]
key_env = "KEY"
requests_minute = 50
day_zone = "America/Los_Angeles"

[bucket.local]

[tier.strong]
bucket = "anthropic"
model = "opus-5-5"
strength = 9
window = 1_000_000
input = 4
output = 20

[tier.small]
bucket = "local"
model = "haiku-5-5"
driver = "builtin"
input = 0.1
output = 0.5
long_over = 100_000
long_input = 0.5
long_output = 2.5

[route]
planning = ["strong", "small"]
hard-review = ["strong"]
default = ["small"]
"""


def test_what_is_written_is_read() -> None:
    models = policy(TEXT, "x").models
    assert models is not None
    assert models.buckets["anthropic"] == Bucket(
        "anthropic", "anthropic", ("http://127.0.0.1:1", "http://127.0.0.1:2/v1"), "KEY",
        requests_minute=50, day_zone="America/Los_Angeles",
    )  # fmt: skip
    assert models.buckets["local"] == Bucket("local")
    assert models.tiers["strong"] == Tier("strong", "anthropic", "opus-5-5", Price(4, 20), 1_000_000, "", 9)
    small = models.tiers["small"]
    assert (small.driver, small.price) == ("builtin", Price(0.1, 0.5, 0.1, 1.25, 100_000, 0.5, 2.5))
    rest = dict.fromkeys(("judgment", "structured", "research", "bulk"), ("small",))
    assert models.routes == {"planning": ("strong", "small"), "hard-review": ("strong",), **rest}
    assert models.asked == ()


def test_who_the_router_may_ask_is_no_kind_of_work() -> None:
    models = policy(TEXT.partition("[route]")[0] + '[route]\nrouter = ["small"]\n', "x").models
    assert models is not None and models.asked == ("small",)
    assert models.routes["bulk"] == ("strong", "small") and "router" not in models.routes


def test_without_routes_every_ordinary_kind_has_all_tiers() -> None:
    models = policy(TEXT.partition("[route]")[0], "x").models
    assert models is not None
    assert models.routes == dict.fromkeys(
        ("planning", "judgment", "structured", "research", "bulk"), ("strong", "small")
    )


def test_a_long_prompt_costs_its_own_price() -> None:
    price = Price(0.10, 0.50, 0.1, 1.25, 100_000, 0.50, 2.50)
    assert price.of(Usage(100_000, 1000)) == pytest.approx(0.0105)
    assert price.of(Usage(100_001, 1000)) == pytest.approx(0.0525, rel=1e-4)
    assert price.of(Usage(0, 0, cache_read=90_000, cache_write=8_000)) == pytest.approx(0.0019)


def test_without_them_there_are_none() -> None:
    assert policy("[agent]\nmodel = 'x'\n", "x").models is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[tier.a]\nbucket = 'b'\nmodel = 'm'", "x:2: tier.a.bucket: there is no bucket 'b'"),
        ("[bucket.b]\n[tier.a]\nbucket = 'b'", "x:2: tier.a: it names no model"),
        ("[bucket.b]\nrequest_minute = 1", "x:2: bucket.b.request_minute: unknown key"),
        ("[bucket.b]\nrequests_minute = -1", "x:2: bucket.b.requests_minute: -1 is not between"),
        ("[bucket.b]\nservers = ['ftp://h']", "x:2: bucket.b.servers: 'ftp://h': not an address"),
        ("[bucket.b]\nservers = ['http://u:p@h']", "not an address"),
        ("[bucket.b]\nday_zone = 'Mars/North'", "x:2: bucket.b.day_zone: 'Mars/North' is not a time zone"),
        ("[bucket.b]\nday_zone = '../../etc/passwd'", "is not a time zone"),
        ("[bucket.B]\n", "x:1: bucket.B: a name has small letters"),
        ("bucket = 1", "x:1: bucket: a table of tables"),
        ("[bucket]\nb = 1", "x:2: bucket.b: a table, not a value"),
        ("[route]\nplanning = ['x']", "x:2: route.planning: there is no tier 'x'"),
        ("[route]\nhard-review = ['x']", "x:2: route.hard-review: there is no tier 'x'"),
        ("[route]\nplaning = ['x']", "x:2: route.planing: unknown key"),
        ("route = ['x']", "x:1: route: a section"),
        ("[buckets.b]", "x:1: buckets: unknown section"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        policy(text, "x")
    assert said in str(caught.value) or said in f"{caught.value.message}"


def test_a_misspelt_name_gets_a_hint() -> None:
    with pytest.raises(ConfigError) as caught:
        policy("[bucket.anthropic]\n[tier.a]\nbucket = 'antropic'\nmodel = 'm'", "x")
    assert "anthropic" in caught.value.hint


def test_config_show_has_them(tmp_path: Path) -> None:
    loaded = load(tmp_path, {}, policy_text=TEXT)
    rows = {name: value for name, value, _ in loaded.rows()}
    assert rows["bucket.anthropic.key_env"] == '"KEY"'
    assert rows["tier.small.long_over"] == "100000"
    assert rows["route.hard-review"] == '["strong"]'
    assert "bucket.local.key_env" not in rows


def test_they_are_documented() -> None:
    page = model_settings.render_docs({name: "There." for name in ("bucket", "tier", "route")})
    for row in ("requests_minute", "long_over", "hard_review"):
        assert f"| `{row}` |" in page
    assert Models().explicit == ("hard-review",)
