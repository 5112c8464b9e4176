"""Twelve texts that are nearly an identity: what prefixes, patterns, lowercasing, URL parsers and eyes have taken for the true one elsewhere."""

import re

MUTATIONS = (
    *("prefix", "suffix", "substring", "case", "port", "userinfo"),
    *("trailing slash", "trailing dot", "homoglyph", "percent encoding", "ref suffix", "invisible character"),
)
_LOOKALIKES = {"a": "\u0430", "e": "\u0435", "o": "\u043e", "i": "\u0456", "c": "\u0441", "p": "\u0440", "s": "\u0455", "h": "\u04bb", "n": "\u0578", "u": "\u057d"}


def mutate(text: str, how: str) -> str:
    """The text, made nearly the same; what has no host gets the change at its end."""
    scheme, slashes, rest = text.partition("://")
    host, slash, path = rest.partition("/") if slashes else ("", "", text)
    letter = next(place for place, character in enumerate(text) if character in _LOOKALIKES and place >= len(text) // 2)
    changed = {
        "prefix": text[:-1],
        "suffix": text + "x",
        "substring": text[1:],
        "case": re.sub("[a-z]", lambda found: found[0].upper(), text, count=1),
        "port": f"{scheme}://{host}:443{slash}{path}" if slashes else text + ":443",
        "userinfo": f"{scheme}://u@{rest}" if slashes else "u@" + text,
        "trailing slash": text + "/",
        "trailing dot": f"{scheme}://{host}.{slash}{path}" if slashes else text + ".",
        "homoglyph": text[:letter] + _LOOKALIKES[text[letter]] + text[letter + 1 :],
        "percent encoding": f"{text[:letter]}%{ord(text[letter]):02x}{text[letter + 1 :]}",
        "ref suffix": text + "@refs/heads/main",
        "invisible character": text[:letter] + "\u200b" + text[letter:],
    }[how]
    assert changed != text
    return changed
