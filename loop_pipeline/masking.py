"""Keeps passwords out of everything that is printed, logged or raised.

What a child process is told of the environment is in `child_environment`.
"""

from __future__ import annotations

import os
import re

HIDDEN = "***"
# Up to the last @: a password may hold any sign, also one that should have been percent-encoded.
_LOGIN = re.compile(r"(?<=://)[^\s\"'<>]*@")
_PARAMETER = re.compile(
    r"([?&;][\w.-]*(?:password|passwd|pwd|secret|token|key|sig|signature)=)[^&;#\s\"'<>]+", re.I
)
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:API_?KEY|KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|AUTH)S?(?:_|$)", re.I
)
# Keys as vendors make them, and what follows an Authorization header's first word.
_BEARER = re.compile(r"\b(bearer |basic |sk-|pk-|xox[a-z]-|gh[pousr]_|AKIA)[\w.+/=~-]{12,}", re.I)
# A field of JSON with a text.
_FIELD = re.compile(r'("([\w.-]{1,64})"\s*:\s*)"(?:[^"\\]|\\.)*"')
# Shorter values are words that stand in many texts for other reasons.
SHORTEST = 8


def masked(text: str) -> str:
    """The same text with logins, passwords and keys in its URLs replaced by ``***``."""
    return _PARAMETER.sub(rf"\1{HIDDEN}", _LOGIN.sub(f"{HIDDEN}@", text))


def mask_secrets(text: str) -> str:
    """The same text without anything that the environment holds as a secret, in whatever form.

    For the last place before a message leaves the program: what libraries say of a password is
    not always a URL.
    """
    values = {v for name, v in os.environ.items() if is_secret_name(name)}
    values |= {p for v in os.environ.values() for p in _passwords(v)}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    return masked(text)


def is_secret_name(name: str) -> bool:
    """Whether a variable of that name holds a key, a token or a password."""
    return bool(_SECRET_NAME.search(name))


def holds_password(value: str) -> bool:
    """Whether a value is or holds a URL with a login or a key."""
    return masked(value) != value


def _passwords(value: str) -> list[str]:
    return [found[0][:-1].partition(":")[2] for found in _LOGIN.finditer(value)]


def mask_record(text: str) -> str:
    """A line of traffic as a person may see it: without keys and tokens, and on one line.

    What people wrote stays: it is what has to be looked at. Nothing in it reaches a terminal as a
    command.
    """
    text = _BEARER.sub(rf"\1{HIDDEN}", _FIELD.sub(_hidden_field, mask_secrets(text)))
    return "".join(sign if sign.isprintable() else f"\\u{ord(sign):04x}" for sign in text)


def _hidden_field(match: re.Match[str]) -> str:
    return f'{match[1]}"{HIDDEN}"' if is_secret_name(match[2].replace("-", "_")) else match[0]
