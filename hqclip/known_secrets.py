"""A name and its value, or a text, in; whether that is a secret, or the text without its secrets, out.

All that is known of how secrets look stands here. What hides may hide too much, and begins early. What refuses is in
somebody's way: it wants longer keys, and lets through what only sounds like a secret (`MAX_TOKEN=512`,
`PAD_TOKEN=<pad>`, `SORT_KEY=name`, a path, a digest) and what stands for one (`http://me:$(PASSWORD)@proxy`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

HIDDEN = "***"


def _keys(least: int, openai: str = "sk-") -> str:
    """Keys of services by how they begin, with so many characters behind that."""
    begin = {
        rf"{openai}|glpat-|dckr_pat_|nvapi-|xox[abeprs]-|AIza": r"[\w-]",
        "hf_|gh[pousr]_|AKIA|ASIA": "[A-Za-z0-9]",
        "github_pat_": r"\w",
        r"ya29\.": r"[\w.-]",
    }
    return "|".join(f"(?:{those}){follows}{{{least},}}" for those, follows in begin.items())


# OpenAI's and its like, beginning with a word that nobody thought of: `sk-fashion-pool-2024` is a folder.
_SK = r"sk-(?:\w+-)*(?=\w*\d)(?:(?=\w*[A-Z])(?=\w*[a-z])(?=\w{12})|(?=[a-z]*\d)(?=[a-z0-9]{20}))"
_HIDE_KEYS = re.compile(rf"\b(?:{_keys(8)}|eyJ[\w-]{{8,}}\.[\w-]+(?:\.[\w-]*)?)")  # eyJ: JSON web tokens
_HIDE_BEARER = re.compile(r"\b((?i:bearer|basic))(\s+)(?=\S*[A-Z0-9=])[\w.~+/=-]{8,}")  # "basic settings" are none
_USER = re.compile(r"(://)(?:[^/\s@]+@)+(?!sha256:)")  # name and password before the host of an address
_PASSWORD = re.compile(  # the same, if there is a password that stands for no other
    r"""(://[^/?\#\s:@"'<>]*):(?!\$*[({][\w.\ -]*[)}]@|\$\w+@|\*+@)[^/\s"'<>]+@(?!sha256:)""", re.X
)
_SURE = re.compile(
    rf"(?<![\w-])(?:{_keys(16, _SK)}|eyJ[\w-]{{8,}}\.[\w-]{{8,}}\.)"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY"
    r"|://hooks\.slack\.com/\w+/T\w+/|://discord(?:app)?\.com/api/webhooks/\d+/|://[\w.-]+\.webhook\.office\.com/\w+"
    r"|(?i:authorization:\s*(?:bearer|basic|token)\s+[\w.~+/=-]{8,})"
)
_NAME = re.compile(
    r".*(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|API_?KEY|ACCESS_?KEY)"
    r"|(.*_)?(PWD|COOKIE|CREDENTIALS?|(PRIVATE|SECRET|ACCOUNT|AUTH|SIGNING|KAGGLE)_KEY)",
    re.I,
).fullmatch
_OF_TEXTS = re.compile(r"(.*_)?(PAD|EOS|BOS|UNK|SEP|CLS|MASK|STOP|IMAGE)_TOKEN", re.I).fullmatch  # of a tokenizer
_OBJECT_NAME = re.compile(r"(.*_)?(SECRET(_KEY)?|CREDENTIALS?)", re.I).fullmatch  # outside of env it names one, mostly
_ANY_KEY = re.compile(r"(.*_)?KEY", re.I).fullmatch
_SOUNDS = re.compile(r"(^|_)(token|cookie|password|passwd|secret|credential|key|smtp|slack|webhook)s?(_url)?$")
_PLAIN = re.compile(
    r"|true|false|yes|no|on|off|none|null|empty|\*+"
    r"|-?\d{1,7}(\.\d+)?"  # how many
    r"|(/|\.\.?/|~/).*|[a-z][a-z0-9+.-]*://.*"  # where it is
    r"|<.*>|\[.*\]|\{.*\}"  # a mark in a text, or one to fill in
    r"|\$+(\(\w+\)|\{\w+\}|[A-Za-z_]\w*)",  # another variable
    re.I | re.S,
).fullmatch
_SPOKEN = re.compile(  # in arguments: --name=value, --name value, and NAME=value of a shell
    r"""(?:(?<![\w.-])--([A-Za-z][\w.-]*)[=\s]\s*|(?<![\w.$/-])([A-Z_][A-Z0-9_]*)=)("[^"]*"|'[^']*'|[^\s;&|"']+)"""
)


def holds_secret(text: str) -> bool:
    """By how it looks: a key, or an address with a password in it."""
    return holds_key(text) or has_password(text)


def holds_key(text: str) -> bool:
    """Whether there is the key of a service, a JSON web token, a private key, or an address that is a key itself."""
    return bool(_SURE.search(text))


def has_password(text: str) -> bool:
    """Whether there is an address with a password: `http://me:password@host`."""
    return bool(_PASSWORD.search(text))


def is_secret(name: str, value: str) -> bool:
    """Of a variable, by its name or its value."""
    return holds_secret(f"{name}: {value}") or is_named_secret(name, value)


def is_named_secret(name: str, value: str) -> bool:
    """By its name, if the value is no path, address, mark, small number or truth. A password may be a small number.

    Of other names of keys (`SORT_KEY`) it is one if the value looks random.
    """
    name = _spelled(name)
    if _NAME(name) and not _OF_TEXTS(name):
        is_number = value.isdecimal() and len(value) > 1 and "PASS" in name.upper()
        return is_number or not _PLAIN(value)
    return _ANY_KEY(name) is not None and _is_random(value)


def sounds_secret(name: str) -> bool:
    """By its name alone, of a setting that there is not: a better word for it, where nothing is refused by this."""
    return bool(_SOUNDS.search(name))


def is_said_secret(name: str, value: str) -> bool:
    """As `is_secret`, of annotations, labels and arguments, where `auth-secret: basic-auth` names a secret."""
    is_object = _OBJECT_NAME(_spelled(name)) and not _is_random(value)
    return holds_secret(value) if is_object else is_secret(name, value)


def secret_arguments(words: list[str]) -> Iterator[str]:
    """The names of arguments and shell variables on a command line whose values are secrets; "" for another secret."""
    line, found = " ".join(words), False
    for flag, variable, said in _SPOKEN.findall(line):
        value = said.strip("\"'")
        is_meant = value.startswith(("$", "`", "-")) or "(" in value  # what another command says, or another flag
        if not is_meant and is_said_secret(flag or variable, value):
            found = True
            yield f"--{flag}" if flag else variable
    if not found and holds_secret(line):
        yield ""


def without_secrets(text: str) -> str:
    """The text with `***` for keys, and for names and passwords in addresses."""
    text = _HIDE_BEARER.sub(rf"\1\2{HIDDEN}", text)
    return _USER.sub(rf"\1{HIDDEN}@", _HIDE_KEYS.sub(HIDDEN, text))


def without_sure_secrets(text: str) -> str:
    """The text with `***` for what is a key for sure, and for passwords in addresses."""
    return without_password(_SURE.sub(HIDDEN, text))


def without_user(text: str) -> str:
    """`http://user:password@host` -> `http://host`."""
    return _USER.sub(r"\1", text)


def without_password(text: str) -> str:
    """`http://user:password@host` -> `http://user:***@host`."""
    return _PASSWORD.sub(rf"\1:{HIDDEN}@", text)


def _spelled(name: str) -> str:
    """As variables are spelled: `example.com/apiToken` and `--api-token` end in `api_token`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-.]", "_", name.rpartition("/")[2])


def _is_random(value: str) -> bool:
    """Whether nobody thought of it: small and capital letters and digits in one long word."""
    if not re.fullmatch(r"[\w+/.~-]{15,}={1,2}|[\w+.~-]{16,}", value, re.ASCII):
        return False
    words = [value] if value.endswith("=") else re.split(r"[-_.~+/]", value)
    kinds = ("[a-z]", "[A-Z]", "[0-9]")
    return any(len(word) >= 12 and all(re.search(kind, word) for kind in kinds) for word in words)
