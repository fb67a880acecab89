"""What a sandboxed command must not see: places that hold credentials, and sockets that lead out of it.

A unix socket works through a read-only mount, so folders of sockets are hidden, not closed. The list is of names
that programs are known to use; `Walls.hidden` adds to it and `Walls.readable` takes from it.
"""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

# In each home folder: keys and logins; clouds and services; packages; databases; agents; browsers, mail, chat and
# remote desktops; what was typed.
_HOME = """
    .ssh .gnupg .netrc _netrc .authinfo .authinfo.gpg .git-credentials .git-credential-cache
    .config/git/credentials .cache/git .password-store .vault-token .config/sops .config/age .config/op
    .1password .config/Bitwarden .local/share/keyrings .local/share/kwalletd .pki
    .cert .krb5 .config/rclone .subversion/auth

    .aws .azure .config/gcloud .boto .gsutil .s3cfg .oci .ibmcloud .bluemix .aliyun .config/doctl
    .config/hcloud .config/linode-cli .config/scw .kube .docker .config/containers .local/share/containers
    .colima .lima .rd .orbstack .minikube .helm .config/helm .config/heroku .fly .config/fly .vercel
    .config/vercel .local/share/com.vercel.cli .netlify .config/netlify .railway .supabase .config/neonctl
    .config/turso .config/stripe .config/configstore .wrangler .config/.wrangler .terraform.d .terraformrc
    .pulumi .config/gh .config/hub .config/glab-cli .config/tea .config/github-copilot .databrickscfg
    .snowflake .config/snowflake .snowsql .kaggle .config/kaggle .huggingface .cache/huggingface/token
    .config/wandb .circleci .travis .sentryclirc .ngrok2 .config/ngrok

    .npmrc .yarnrc .yarnrc.yml .pypirc .config/pypoetry/auth.toml .local/share/uv/credentials
    .cargo/credentials .cargo/credentials.toml .gem/credentials .bundle/config .m2/settings.xml
    .m2/settings-security.xml .gradle/gradle.properties .composer/auth.json .config/composer/auth.json
    .nuget/NuGet/NuGet.Config .config/NuGet/NuGet.Config

    .pgpass .pg_service.conf .my.cnf .mylogin.cnf .mongorc.js .dbshell .redisclirc .local/share/DBeaverData

    .claude .claude.json .config/claude .codex .gemini .config/gemini .cursor .config/cursor .config/Cursor
    .config/opencode .local/share/opencode .opencode .aider.conf.yml .aider .config/aider .config/goose
    .local/share/goose .continue .codeium .config/zed .amp .config/amp .factory .qwen .openai .anthropic
    .config/anthropic .config/openai .llm .config/io.datasette.llm .config/crush .local/share/crush

    .mozilla .config/google-chrome .config/chromium .config/BraveSoftware .config/microsoft-edge
    .config/vivaldi .config/opera .config/Slack .config/discord .config/Signal .thunderbird
    .local/share/evolution .config/evolution .config/1Password .config/Code/User .vscode-server
    .config/remmina .local/share/remmina .vnc snap .var/app

    .lesshst .viminfo .local/share/fish/fish_history .local/state/psql_history .zsh_sessions
    .config/fish/fish_variables
"""
_HOME_GLOBS = (
    ".*_history",
    ".*history",
    ".env",
    ".env.*",
    ".config/*/credentials*",
    ".config/Bitwarden*",
    "*.pem",
    "*.p12",
    "*.pfx",
)
_LOCAL = (".env", ".env.*", ".envrc", "*.pem", "*.key", ".dev.vars", "local_settings.py", "secrets.toml")
_SAMPLES = frozenset({".example", ".sample", ".template", ".dist", ".defaults"})
# Sockets whose owner does for a caller what the caller cannot, and what only root may read.
_SYSTEM = """
    /var/lib/docker /var/lib/containerd /var/lib/lxd/unix.socket /var/snap/lxd/common/lxd/unix.socket
    /var/lib/incus/unix.socket /var/lib/libvirt /var/lib/systemd /var/lib/sss /var/lib/NetworkManager
    /var/spool/cron /var/spool/at /var/mail /var/spool/mail /var/backups /etc/shadow /etc/shadow-
    /etc/gshadow /etc/gshadow- /etc/sudoers /etc/sudoers.d /etc/ssl/private /etc/pki/tls/private
    /etc/krb5.keytab /etc/NetworkManager/system-connections /etc/wireguard /etc/openvpn /etc/docker
    /etc/kubernetes /etc/rancher /etc/letsencrypt /mnt/wslg /mnt/wsl
"""
_SYSTEM_GLOBS = ("/etc/ssh/ssh_host_*_key",)
# In /run, which is hidden whole: what programs and name resolution cannot do without.
_KEPT = ("/run/current-system", "/run/booted-system", "/run/wrappers", "/run/opengl-driver")
_NAMES = ("/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf")
_NAMED_SOCKETS = ("SSH_AUTH_SOCK", "DOCKER_HOST", "CONTAINER_HOST", "DBUS_SESSION_BUS_ADDRESS", "XAUTHORITY")
GIB = 1024**3


def _temporary_size() -> int:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(min(4 * GIB, memory // 4))


TEMPORARY_SIZE = _temporary_size()  # bytes of the private /tmp, which is in memory


def temporary() -> tuple[Path, ...]:
    """Folders that everybody writes: each sandbox has its own."""
    return tuple(path for path in map(Path, ("/tmp", "/var/tmp")) if path.is_dir() and not path.is_symlink())


def places() -> Iterator[Path]:
    """What is hidden, if it exists."""
    yield Path("/run")
    if not Path("/var/run").is_symlink():
        yield Path("/var/run")
    for home in homes():
        yield from (home / name for name in _HOME.split())
        for pattern in _HOME_GLOBS:
            yield from home.glob(pattern)
    yield from map(Path, _SYSTEM.split())
    for pattern in _SYSTEM_GLOBS:
        yield from Path("/").glob(pattern[1:])
    yield from _sockets()


def kept(network: bool) -> Iterator[Path]:
    """What stays although it is in a hidden folder."""
    yield from map(Path, _KEPT)
    if network:
        yield from (Path(name).resolve() for name in _NAMES)


def of_checkout(root: Path) -> tuple[Path, ...]:
    """What a person's own checkout holds that is not in its commits: settings with secrets, also one folder below,
    and the state of agentq. For `Walls.hidden`; folders of it that are needed are given as `readable`."""
    found = [path for pattern in _LOCAL for path in (*root.glob(pattern), *root.glob(f"*/{pattern}"))]
    samples = [path for path in found if path.suffix in _SAMPLES]
    return (root / ".git" / "agentq", *(path for path in found if path not in samples))


def homes() -> tuple[Path, ...]:
    """Home folders whose files this process may read: its own, and for root those of all people."""
    found = [Path(os.environ.get("HOME") or "/nonexistent")]
    own = os.getuid()
    found += [Path(user.pw_dir) for user in pwd.getpwall() if user.pw_uid == own or (own == 0 and _person(user))]
    return tuple(dict.fromkeys(path for path in found if len(path.parts) > 1 and path.is_dir()))


def _person(user: pwd.struct_passwd) -> bool:
    return 1000 <= user.pw_uid < 60000


def _sockets() -> Iterator[Path]:
    """Sockets and files that this process's environment names."""
    for name in _NAMED_SOCKETS:
        for word in os.environ.get(name, "").split(","):
            path = word.partition("=")[2] or word
            path = path.removeprefix("unix://").removeprefix("unix:")
            if path.startswith("/"):
                yield Path(path)
