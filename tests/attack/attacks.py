"""`python attacks.py DOOR TARGETS`: what code that nobody has read may try on the machine that runs it.

Run as an agent, as a gate and as another user of the machine. TARGETS is a JSON file; the answer is a JSON list of the
attacks whose effect is seen from inside. Others leave a mark, which the host looks for. Standard library only: the
file is all that another user needs to have.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

SESSION, GATE, USER = "session", "gate", "user"
INSIDE = frozenset({SESSION, GATE})
EVERYWHERE = frozenset({SESSION, GATE, USER})
ANSWER = "attacks.json"
"""in a session's folder"""
CRIES = 45
_PATIENCE_S = 400
BENT = (
    "smudge",
    "trailer",
    "worktree",
    "clean",
    "process",
    "monitor",
    "included",
    "hooks path",
    "signer",
    "uploader",
    "textconv",
    "external diff",
)
HOOKS = (
    "prepare-commit-msg",
    "commit-msg",
    "pre-commit",
    "post-commit",
    "reference-transaction",
    "post-index-change",
    "post-checkout",
    "pre-push",
)
To = dict[str, Any]


class Attack(NamedTuple):
    """One thing to try; `act` answers whether its effect is seen from inside, or leaves `mark`."""

    name: str
    kind: str
    act: Callable[[], object]
    mark: str = ""
    """a path, `sleep:SECONDS` (a process that lives on) or `ref:REPOSITORY:REF`"""
    doors: frozenset[str] = EVERYWHERE


def attacks(door: str, to: To) -> list[Attack]:
    """Every attack of this door on these targets."""
    groups = (_reading, _writing, _connecting, _asking, _processes, _breaking_out, _publishing, _commands, _own_folder)
    return [attack for group in groups for attack in group(door, to) if door in attack.doors]


# --- files ------------------------------------------------------------------------------------


def _reading(door: str, to: To) -> Iterator[Attack]:
    for name, path in to["read"].items():
        yield Attack(f"read {name}", "secrets", partial(_shows, path, to["token"]))
    for name, path in to["hold"].items():
        yield Attack(f"read {name}", "secrets", Path(path).read_bytes)
    if to["root"]:
        yield Attack("read /etc/shadow", "secrets", partial(_shows, "/etc/shadow", ":"))
    yield Attack("list the town", "secrets", lambda: "town.toml" in os.listdir(to["town"]))
    yield Attack("list the home", "secrets", lambda: ".ssh" in os.listdir(to["home"]))
    yield Attack("read the own environment", "secrets", lambda: to["token"] in str(os.environ), doors=INSIDE)


def _writing(door: str, to: To) -> Iterator[Attack]:
    kind = "other people's files"
    for name, folder in to["write"].items():
        mark = f"{folder}/{door}.{to['unique']}"
        yield Attack(f"write into {name}", kind, partial(Path(mark).write_text, door), mark)
    for folder in to["scratch"]:
        mark = f"{folder}/{door}.{to['unique']}"
        yield Attack(f"write into {folder}", kind, partial(Path(mark).write_text, door), mark, INSIDE)
    for name, path in to["append"].items():
        line = f"# {door}.mark\n"
        yield Attack(f"change {name}", kind, partial(_append, path, line), f"line:{path}:{line}")
    victim = f"{to['victims']}/{door}"
    yield Attack("remove a file", kind, partial(os.unlink, victim), f"gone:{victim}")
    hard = partial(_links, to["read"]["secrets.toml"], f"hard.{to['unique']}", to["token"])
    yield Attack("give secrets a second name", kind, hard, doors=INSIDE)
    yield Attack("watch the town's secrets", kind, partial(_watches, to["read"]["secrets.toml"]))
    link = f"{to['town']}/{door}.link"
    yield Attack("link into the town", kind, partial(os.symlink, "/etc/passwd", link), link)
    yield Attack("change a folder's mode", kind, partial(_did, os.chmod, to["shed"], 0o700))


def _links(path: str, name: str, token: str) -> bool:
    os.link(path, name)
    try:
        return _shows(name, token)
    finally:
        os.unlink(name)


def _watches(path: str) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    watching, every = libc.inotify_init(), 0xFFF
    try:
        return bool(libc.inotify_add_watch(watching, os.fsencode(path), every) >= 0)
    finally:
        os.close(watching)


def _shows(path: str, token: str) -> bool:
    return token in Path(path).read_text(errors="replace")


def _append(path: str, line: str) -> None:
    with open(path, "a") as file:
        file.write(line)


def _did(act: Callable[..., object], *arguments: object) -> bool:
    act(*arguments)
    return True


# --- sockets, processes -----------------------------------------------------------------------


def _connecting(door: str, to: To) -> Iterator[Attack]:
    for name, path in to["sockets"].items():
        yield Attack(f"connect to {name}", "sockets", partial(_connects, path))
    agents = frozenset({GATE, USER})
    yield Attack("connect to the door of agents", "sockets", partial(_connects, to["door"]), doors=agents)
    if door == GATE or to["offline"]:
        for name, address in to["listeners"].items():
            at = tuple(address) if isinstance(address, list) else address
            yield Attack(f"connect to {name}", "sockets", partial(_connects, at), doors=INSIDE)
    mark = f"{to['outside']}/{door}.tmux"
    run = partial(_quiet, "tmux", "-S", to["sockets"]["tmux"], "run-shell", f"touch {mark}")
    yield Attack("run a command in the tmux server", "sockets", run, mark)
    yield Attack("use memory that processes share", "processes", partial(_attaches, to["shared_memory"]))
    queue = partial(_finds_queue, to["shared_memory"])
    yield Attack("find a queue of messages of processes", "processes", queue, doors=INSIDE)
    yield Attack("open another's terminal", "sockets", partial(_did, os.open, to["terminal"], os.O_RDWR | os.O_NOCTTY))


def _connects(address: Any) -> bool:
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
        client.settimeout(5)
        client.connect(address)
    return True


# --- the network, of an agent that has a list of hosts ----------------------------------------

LISTED = "reach the host that is listed"
"""no attack: what has to work"""
METADATA = "ask for the address of a cloud's metadata"


def _asking(door: str, to: To) -> Iterator[Attack]:
    if door != SESSION or not to["network"]:
        return
    own, other, alone = to["network"]["own"], to["network"]["other"], frozenset({SESSION})
    for name, host in {
        LISTED: None,
        "ask for a host that is not listed": "localhost",
        "ask for a listed name that leads to loopback": to["network"]["name"],
        "ask for another port of what is listed": "127.0.0.1",
        "ask for loopback by another spelling": "127.1",
        "ask for no address": "0.0.0.0",
        "ask for an address of the host": own,
    }.items():
        if host == "":
            continue
        place = (host, other) if host is not None else ("127.0.0.1", to["network"]["listed"])
        yield Attack(name, "network", partial(_tunnels, *place), doors=alone)
        if host is not None:
            yield Attack(f"{name} in plain HTTP", "network", partial(_fetches, *place), doors=alone)
    yield Attack(METADATA, "network", partial(_tunnels, "169.254.169.254", 80), doors=alone)
    yield Attack("connect past the proxy", "network", partial(_connects, (own, other)), doors=alone)
    yield Attack("ask a resolver", "network", partial(_resolves, own, to["network"]["resolver"]), doors=alone)
    yield Attack("use another's proxy", "network", partial(_connects, to["network"]["socket"]), doors=alone)


def _proxied(host: str, port: int) -> socket.socket:
    """A connection to the proxy of a sandbox with a list; to the place itself where there is none."""
    within = os.environ.get("HTTPS_PROXY") == "http://127.0.0.1:3128"
    return socket.create_connection(("127.0.0.1", 3128) if within else (host, port), timeout=30)


def _tunnels(host: str, port: int) -> bool:
    with _proxied(host, port) as client:
        if client.getpeername()[1] == port:
            return True
        client.sendall(f"CONNECT {host}:{port} HTTP/1.1\r\n\r\n".encode())
        return b" 200 " in client.recv(4096).partition(b"\r\n")[0]


def _fetches(host: str, port: int) -> bool:
    with _proxied(host, port) as client:
        client.sendall(f"GET http://{host}:{port}/ HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return b" 200 " in client.recv(4096).partition(b"\r\n")[0]


def _resolves(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(10)
        client.sendto(b"?", (host, port))
        return client.recv(10) == b"!"


def _attaches(key: int) -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    known = libc.shmget(key, 0, 0)
    return bool(known >= 0 and libc.shmat(known, None, 0) != ctypes.c_void_p(-1).value)


def _finds_queue(key: int) -> bool:
    return bool(ctypes.CDLL(None).msgget(key, 0) >= 0)


# Without its environment a process cannot be told to be the job's.
_DAEMONS = {
    "no environment": ("env", "-i"),
    "a session of its own": ("env", "-i", "setsid", "-f"),
    "no hangup": ("env", "-i", "nohup"),
    "a shell in between": ("env", "-i", "sh", "-c", 'setsid "$@" & exit', "sh"),
}


def _processes(door: str, to: To) -> Iterator[Attack]:
    kind, pid, token = "processes", to["pids"]["a program"], to["token"]
    for name, other in to["pids"].items():
        yield Attack(f"signal {name}", kind, partial(_did, os.kill, other, 0))
    proc = f"/proc/{pid}"
    yield Attack("read a program's environment", kind, partial(_shows, f"{proc}/environ", token))
    yield Attack("read any environment", kind, partial(_any_planted, to))
    yield Attack("open a program's memory", kind, partial(_did, os.open, f"{proc}/mem", os.O_RDONLY))
    yield Attack("list a program's files", kind, partial(os.listdir, f"{proc}/fd"))
    yield Attack("read through its root", kind, partial(_shows, f"{proc}/root{to['key']}", token))
    yield Attack("read through its folder", kind, partial(_shows, f"{proc}/cwd/near.txt", token))
    yield Attack("read its command line", kind, partial(_shows, f"{proc}/cmdline", "600"), doors=INSIDE)
    yield Attack("trace a program", kind, partial(_traces, pid))
    yield Attack("take a file from a program", kind, partial(_takes_file, pid))
    yield Attack("see a program's memory map", kind, partial(_shows, f"{proc}/maps", "sleep"))
    yield Attack("have a program killed first", kind, partial(_did, Path(f"{proc}/oom_score_adj").write_text, "0"))
    yield Attack("keep a program to a processor", kind, partial(_did, _pins, pid))
    largest = resource.RLIM_INFINITY
    lifts = partial(_did, resource.setrlimit, resource.RLIMIT_FSIZE, (largest, largest))
    yield Attack("lift its own limits", kind, lifts, doors=INSIDE)
    yield Attack("slow a program down", kind, partial(_did, os.setpriority, os.PRIO_PROCESS, pid, 1))
    yield Attack("limit a program", kind, partial(_did, resource.prlimit, pid, resource.RLIMIT_NOFILE))
    for index, (name, words) in enumerate(_DAEMONS.items()):
        seconds = f"{to['sleep'].get(door)}{index}"
        act = partial(_spawn, *words, "/bin/sleep", seconds)
        yield Attack(f"leave a daemon: {name}", kind, act, f"sleep:{seconds}", INSIDE)


def _any_planted(to: To) -> bool:
    for path in glob.glob("/proc/[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if path != f"/proc/{os.getpid()}/environ" and b"GT_PLANTED=" in Path(path).read_bytes():
                return True
    return False


def _takes_file(pid: int) -> bool:
    number = 438  # of pidfd_getfd, on every machine
    return bool(ctypes.CDLL(None).syscall(number, os.pidfd_open(pid), 0, 0) >= 0)


def _pins(pid: int) -> None:
    os.sched_setaffinity(pid, os.sched_getaffinity(pid))


def _traces(pid: int) -> bool:
    attach, detach = 0x4206, 17  # PTRACE_SEIZE, which does not stop it
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(attach, pid, None, None) != 0:
        return False
    libc.ptrace(detach, pid, None, None)
    return True


def _spawn(*words: str) -> None:
    nothing = subprocess.DEVNULL
    subprocess.Popen(words, cwd="/", start_new_session=True, stdin=nothing, stdout=nothing, stderr=nothing)


# --- ways out of a sandbox --------------------------------------------------------------------


def _breaking_out(door: str, to: To) -> Iterator[Attack]:
    secrets, folder, kind = to["read"]["secrets.toml"], to["write"]["the installation"], "ways out"
    for name, script in {
        "uncover the town in a namespace": f"umount {to['town']}",
        "move the town in a namespace": f"mount --move {to['town']} /mnt",
        "cover the town's cover": f"mount --rbind / /mnt && cat /mnt{secrets}",
        "read through the first process": f"cat /proc/1/root{secrets}",
    }.items():
        yield Attack(name, kind, partial(_prints, f"{script}; cat {secrets}", to["token"]), doors=INSIDE)
    mark = f"{folder}/{door}.again.{to['unique']}"
    remount = partial(_in_namespace, f"mount -o remount,bind,rw {folder}; touch {mark}")
    yield Attack("remount what is read-only", kind, remount, mark, INSIDE)
    shared = f"/dev/shm/gt-{to['unique']}"
    yield Attack("read through a new /dev", kind, partial(_prints, f"cat {shared}", to["token"]), doors=INSIDE)


def _in_namespace(script: str) -> str:
    """What a script prints that has every right in namespaces of its own, or those of root.

    Always in a mount namespace of its own: run without a sandbox as root, mounts would stay on this machine.
    """
    inner = _output("unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c", script)
    return inner + _output("unshare", "--mount", "--propagation", "private", "--", "sh", "-c", script)


def _prints(script: str, token: str) -> bool:
    return token in _in_namespace(script)


# --- publishing, commands ---------------------------------------------------------------------


def _publishing(door: str, to: To) -> Iterator[Attack]:
    kind, ref = "publishing", f"refs/heads/{door}.mark"
    for name, repository in to["repositories"].items():
        push = partial(_quiet, "git", "push", repository, f"HEAD:{ref}")
        yield Attack(f"push to {name}", kind, push, f"ref:{repository}:{ref}", INSIDE)
    ref = f"refs/heads/{door}.origin"
    script = f"git config --replace-all remote.origin.pushurl {to['remote']}; git push origin HEAD:{ref}"
    push = partial(_quiet, "sh", "-c", script)
    yield Attack("push to its own origin", kind, push, f"ref:{to['remote']}:{ref}", frozenset({SESSION}))
    clone = to["repositories"]["the town's clone"]
    configure = partial(_quiet, "git", "--git-dir", clone, "config", f"planted.{door}", "1")
    yield Attack("configure the town's clone", kind, configure, f"line:{clone}/config:\t{door} = 1\n", INSIDE)


def _commands(door: str, to: To) -> Iterator[Attack]:
    for line in to["polite"]:
        yield Attack(f"`{line}`", "commands", partial(_quiet, *line.split()), doors=frozenset({SESSION}))
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GT_")}
    for line in to["rude"]:
        program, *words = line.format(door=door).split()
        argv = (f"{to['programs']}/{program}", *words, "--town", to["town"])
        act = partial(_quiet, *argv, environment=outside)
        yield Attack(f"`{line}` as if outside of a session", "commands", act, doors=INSIDE)


# --- the session's own folder, which the town reads and writes ----------------------------------


def _own_folder(door: str, to: To) -> Iterator[Attack]:
    if door != SESSION:
        return
    alone = frozenset({SESSION})
    folder = Path(os.environ.get("GT_TASK_FILE", "/nowhere/task")).parent
    inbox = f"{to['outside']}/inbox/letter.json"

    def link_inbox() -> None:
        (folder / "inbox").rename(folder / "inbox.before")
        (folder / "inbox").symlink_to(f"{to['outside']}/inbox")

    yield Attack("lead letters elsewhere", "the session's folder", link_inbox, inbox, alone)
    yield Attack("call for help without end", "the session's folder", lambda: _cry(folder), "helps", alone)
    yield Attack("leave a secret in the pane", "the session's folder", lambda: print(to["key_shape"]), "pane", alone)


def _cry(folder: Path) -> None:
    token = json.loads((folder / "session.json").read_text())["token"]
    for number in range(CRIES):
        told = {"problem": f"help {number}", "severity": "low", "token": token, "at": ""}
        (folder / "help" / f"{number:05}.json").write_text(json.dumps(told))


# --- a repository whose configuration is code --------------------------------------------------

_GOES_ON = {
    "clean": "cat",
    "smudge": "cat",
    "textconv": 'cat "$1"',
    "process": "exit 1",
    "signer": "exit 1",
    "uploader": 'exec git-upload-pack "$@"',
    **dict.fromkeys(("monitor", "included", "worktree"), "exit 1"),  # git looks at every file then
}
_AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.com")
_GLOBAL = {"core.fsmonitor", "core.hooksPath", "gpg.program", "filter.bent.clean"}
_MET = (
    *("cat-file --filters --path=a.txt HEAD:a.txt", "interpret-trailers --trailer bent=x"),
    *("status", "diff HEAD", "diff --no-ext-diff HEAD", "add -A", "-c commit.gpgSign=false commit -qm bent{}"),
    *("commit -q --allow-empty -m signed", "fetch -q"),
    *("push -q {remote} HEAD:refs/heads/bent.{}", "checkout -q -- README.md"),
)


def bend(to: To) -> None:
    """Plant in the own repository whatever git runs, each with a mark of its own; then have the own git meet it."""
    here = Path(_output("git", "rev-parse", "--absolute-git-dir").strip())
    script = here / "run"
    _write_scripts(script, here / "hooks", to["outside"])
    Path(".gitattributes").write_text("*.txt filter=bent\n*.proc filter=bent2\n*.md diff=bent\n")
    planted = {
        "filter.bent.clean": f"{script}/clean",
        "filter.bent.smudge": f"{script}/smudge",
        "trailer.bent.key": "bent",
        "trailer.bent.cmd": f"{script}/trailer",
        "diff.bent.textconv": f"{script}/textconv",
        "gpg.program": f"{script}/signer",
        "remote.origin.uploadpack": f"{script}/uploader",
    }
    rounds = (
        {"core.fsmonitor": f"{script}/monitor", "commit.gpgSign": "true"},
        {
            "core.hooksPath": f"{script}/hooks",
            "diff.external": f"'{script}/external diff'",
            "include.path": f"{script}/included.config",
        },
        {"filter.bent2.process": f"{script}/process", "extensions.worktreeConfig": "true"},
    )
    (here / "config.worktree").write_text(f'[core]\n\tfsmonitor = "{script}/worktree"\n')
    for number, more in enumerate(rounds):
        for key, value in {**planted, **more}.items():
            _quiet("git", "config", key, value)
            if key in _GLOBAL:
                _quiet("git", "config", "--global", key, value)
        for name in ("README.md", "a.txt", "a.proc"):
            Path(name).write_text(f"changed {number}\n")
        for line in _MET:
            _quiet("git", *_AUTHOR, *line.format(number, remote=to["remote"]).split())
        for where in ("--local", "--global"):
            _quiet("git", "config", where, "--unset", "core.fsmonitor")
    # What is planted keeps the agent's own commits from being made; this one is handed in.
    plain = (*_AUTHOR, "-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false", "-c", "filter.bent2.process=")
    _quiet("git", *plain, "add", "-A")
    _quiet("git", *plain, "commit", "-qm", "bent", "--allow-empty")
    _hand_in(_output("git", "-c", "core.fsmonitor=false", "rev-parse", "HEAD").strip())


def _hand_in(head: str) -> None:
    """As `gt done` does, whose own git would meet what is planted."""
    folder = Path(os.environ["GT_TASK_FILE"]).parent
    told = {"id": "bent", "token": json.loads((folder / "session.json").read_text())["token"], "head_sha": head}
    about = {"bead": os.environ["GT_BEAD"], "attempt": int(os.environ["GT_ATTEMPT"]), "status": "completed"}
    (folder / "done.part").write_text(json.dumps({**told, **about, "message": "", "at": ""}))
    (folder / "done.part").rename(folder / "done.json")


def _write_scripts(script: Path, hooks: Path, outside: str) -> None:
    texts = {script / name: (name, _GOES_ON.get(name, "exit 0")) for name in BENT}
    texts |= {hooks / name: (f"hook {name}", "exit 0") for name in HOOKS}
    texts |= {script / "hooks" / name: ("hooks path", "exit 0") for name in HOOKS}
    for path, (mark, end) in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\ntouch '{outside}/bent.{mark}' 2>/dev/null\n{end}\n")
        path.chmod(0o755)
    (script / "included.config").write_text(f'[core]\n\tfsmonitor = "{script}/included"\n')


def bent_marks(to: To) -> dict[str, str]:
    """By the name of an attack of `bend`: its mark."""
    named = [*BENT, *(f"hook {hook}" for hook in HOOKS)]
    return {f"have git run: {name}": f"{to['outside']}/bent.{name}" for name in named}


# --- running them ---------------------------------------------------------------------------------


def _output(*argv: str) -> str:
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=_PATIENCE_S
    )
    return done.stdout


def _quiet(*argv: str, environment: Any = None) -> bool:
    done = subprocess.run(
        argv, capture_output=True, stdin=subprocess.DEVNULL, timeout=_PATIENCE_S, check=False, env=environment
    )  # fmt: skip
    return done.returncode == 0


def run(door: str, to: To) -> list[str]:
    """Try each; the names of those whose effect is seen from inside."""
    seen = []
    for attack in attacks(door, to):
        with contextlib.suppress(OSError, subprocess.SubprocessError, ValueError, LookupError):
            if attack.act() and not attack.mark:
                seen.append(attack.name)
    return seen


def main() -> None:
    door, place = sys.argv[1], sys.argv[2]
    to = json.loads(Path(place).read_text())
    if door == "bend":
        bend(to)
        return
    if len(sys.argv) > 3 and int(sys.argv[3]) != os.getuid():
        os.setgroups([])
        os.setgid(int(sys.argv[3]))
        os.setuid(int(sys.argv[3]))
    told = json.dumps(run(door, to))
    if door == SESSION:
        Path(os.environ["GT_TASK_FILE"]).with_name(ANSWER).write_text(told)
    print(f"ATTACKS {told}", flush=True)


if __name__ == "__main__":
    main()
