"""Whether two URLs name one database, however they are written: a copy of dev must not be dev."""

from urllib.parse import parse_qs, unquote, urlsplit

# The usual port of servers, by the scheme of their URLs.
PORTS = {"postgres": "5432", "postgresql": "5432", "mysql": "3306", "mariadb": "3306", "mongodb": "27017"}
HERE = ("", "localhost", "127.0.0.1", "::1", "0.0.0.0")


def same_database(one: str, other: str) -> bool:
    """Whoever connects, and with whatever options. One of several hosts in common is enough."""
    return bool(one and other) and (one == other or bool(_places(one) & _places(other)))


def _places(url: str) -> frozenset[tuple[str, ...]]:
    """(host, port, database) of each host; a file has its path alone. What cannot be read is only itself."""
    try:
        parts = urlsplit(url)
        options = {name: found[-1] for name, found in parse_qs(parts.query).items()}
    except ValueError:
        return frozenset({(url,)})
    usual = PORTS.get(parts.scheme.partition("+")[0], "")
    named = parts.netloc.rpartition("@")[2]
    if not named and not usual:
        return frozenset({(url.partition("?")[0],)})
    hosts = [_host(one) for one in named.split(",")]
    if given := options.get("host") or options.get("hostaddr"):
        hosts = [(name, "") for name in given.split(",")]
    ports = options.get("port", "").split(",")
    database = options.get("dbname") or unquote(parts.path).strip("/")
    return frozenset(
        (_here(name), port or (ports[at] if at < len(ports) else ports[-1]) or usual, database)
        for at, (name, port) in enumerate(hosts)
    )


def _host(text: str) -> tuple[str, str]:
    """Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`."""
    if text.startswith("["):
        name, _, port = text[1:].partition("]")
        return name, port.removeprefix(":")
    name, _, port = text.partition(":")
    return name, port


def _here(name: str) -> str:
    """The name of a host, the same for all that mean this one. A folder of sockets stands for itself."""
    plain = unquote(name).lower() if not name.startswith("/") else name
    return "localhost" if plain in HERE else plain
