"""What `type: NAME` or `type: NAME-VERSION` stands for: the commands, outputs and start of a repository laid out as its language expects.

One rule for all: the build leaves what is to run under `out/`, and it is started with its port as the last word, or where it must stand.
No network reaches a build: dependencies come with the tree (`vendor/`, a Maven repository named in `.mvn/maven.config`) or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

OUTPUTS: Final = ("out",)
HEALTH: Final = "/healthz"

# Everything but dot files, which hold the document itself.
_COPY = r"mkdir -p out && find . -mindepth 1 -maxdepth 1 ! -name out ! -name '.*' -exec cp -R {} out/ \;"
_JAR = 'mkdir -p target/classes out && javac -d target/classes $(find src/main/java -name "*.java") '
_JAR += "&& jar --create --file out/{component}.jar --main-class Main -C target/classes ."
_JAVA_TESTS = """\
mkdir -p target/tests
javac -cp target/classes -d target/tests $(find src/test/java -name "*.java")
for one in $(cd src/test/java && find . -name "*Test.java" | sort); do
  one=${one#./}
  java -ea -cp target/classes:target/tests "$(echo "${one%.java}" | tr / .)"
done
"""
_RUBY_TESTS = """\
ruby -Ilib -Itest -e '
  files = Dir["test/**/*_test.rb"].sort
  abort "no tests" if files.empty?
  files.each { |file| require File.expand_path(file) }'
"""

_JDK: Final = {
    name: ("/usr/bin/" + name, "/usr/lib/jvm/java-{version}-openjdk-amd64/bin/" + name, "/usr/lib/jvm/java-{version}-openjdk-arm64/bin/" + name)
    for name in ("java", "javac", "jar")
}
_JDK_SETTINGS: Final = ("/etc/java-*-openjdk",)
_GO: Final = {"go": ("/usr/bin/go", "/usr/local/go/bin/go", "/usr/lib/go-{version}/bin/go", "/usr/local/go{version}/bin/go")}


@dataclass(frozen=True)
class Language:
    """One type. `{component}` in commands and argv is the component's name.

    `programs` maps each program that the commands call to the places where it is looked for; those with `{version}` are for a version alone.
    `settings` are the places outside /usr, as glob patterns, where a distribution keeps what those programs read; they are shown read-only.
    `found_by` are the files, as glob patterns, by which `pingee init` knows such a repository.
    """

    programs: Mapping[str, tuple[str, ...]]
    build: tuple[str, ...]
    test: tuple[str, ...]
    argv: tuple[str, ...]
    found_by: tuple[str, ...]
    settings: tuple[str, ...] = ()

    @property
    def has_versions(self) -> bool:
        """Whether a version can be asked for."""
        return any("{version}" in place for places in self.programs.values() for place in places)


def _interpreter(program: str, versioned: str) -> dict[str, tuple[str, ...]]:
    return {program: (f"/usr/bin/{program}", f"/usr/bin/{versioned}", f"/usr/local/bin/{versioned}")}


LANGUAGES: Final[dict[str, Language]] = {
    "shell": Language(
        {"sh": ("/usr/bin/sh",)},
        (_COPY,),
        ('for script in tests/*.sh; do sh -eu "$script"; done',),
        ("sh", "out/main.sh", "{port}"),
        ("*.sh", "tests/*.sh"),
    ),
    "python": Language(
        _interpreter("python3", "python{version}"),
        (_COPY,),
        ("python3 -m unittest discover -s tests",),
        ("python3", "out/main.py", "{port}"),
        ("pyproject.toml", "setup.py", "setup.cfg", "requirements.txt"),
    ),
    "ruby": Language(
        _interpreter("ruby", "ruby{version}"), (_COPY,), (_RUBY_TESTS,), ("ruby", "out/main.rb", "{port}"), ("Gemfile", "*.gemspec", "Rakefile")
    ),
    "php": Language(
        _interpreter("php", "php{version}"),
        (_COPY,),
        ("php vendor/bin/phpunit",),
        ("php", "-S", "127.0.0.1:{port}", "-t", "out/public"),
        ("composer.json",),
        ("/etc/php",),
    ),
    "node": Language(
        {"node": ("/usr/bin/node", "/usr/local/bin/node", "/usr/lib/node-{version}/bin/node")},
        (_COPY,),
        ("node --test",),
        ("node", "out", "{port}"),
        ("package.json",),
    ),
    "go": Language(
        _GO,
        ("GOTOOLCHAIN=local go build -trimpath -o out/{component} .",),
        ("GOTOOLCHAIN=local go test ./...",),
        ("out/{component}", "{port}"),
        ("go.mod",),
    ),
    "java": Language(_JDK, (_JAR,), (_JAVA_TESTS,), ("java", "-jar", "out/{component}.jar", "{port}"), ("src/main/java",), _JDK_SETTINGS),
    "maven": Language(
        {**_JDK, "mvn": ("/usr/bin/mvn",)},
        ("mvn -o -q -DskipTests package", "mkdir -p out && cp target/*.jar out/{component}.jar"),
        ("mvn -o -q test",),
        ("java", "-jar", "out/{component}.jar", "{port}"),
        ("pom.xml",),
        (*_JDK_SETTINGS, "/etc/maven"),
    ),
    "gradle": Language(
        {**_JDK, "gradle": ("/usr/bin/gradle",)},
        ("gradle --offline --no-daemon -q assemble", "mkdir -p out && cp build/libs/*.jar out/{component}.jar"),
        ("gradle --offline --no-daemon -q test",),
        ("java", "-jar", "out/{component}.jar", "{port}"),
        ("build.gradle", "build.gradle.kts"),
        _JDK_SETTINGS,
    ),
    "make": Language({"make": ("/usr/bin/make",)}, ("make",), ("make test",), ("out/{component}", "{port}"), ("Makefile", "GNUmakefile")),
    "c": Language(
        {"make": ("/usr/bin/make",), "cc": ("/usr/bin/cc",)}, ("make",), ("make check",), ("out/{component}", "{port}"), ("configure.ac", "*.c")
    ),
}

_SPELT = re.compile(r"([a-z]+)(?:-([0-9]{1,3}(?:\.[0-9]{1,3}){0,2}))?")


class UnknownLanguage(ValueError):
    """No such type, or no such version of it; the message says what would be right."""


@dataclass(frozen=True)
class Wanted:
    """A type as a document names it. `version` None: what the builder has."""

    name: str
    version: str | None

    @property
    def language(self) -> Language:
        """What it stands for."""
        return LANGUAGES[self.name]

    def places(self) -> dict[str, tuple[str, ...]]:
        """Where each of its programs is looked for, best first."""
        return {
            program: tuple(place.replace("{version}", self.version or "") for place in places if ("{version}" in place) == self._versioned(places))
            for program, places in self.language.programs.items()
        }

    def _versioned(self, places: tuple[str, ...]) -> bool:
        return self.version is not None and any("{version}" in place for place in places)


def parse_type(text: str) -> Wanted:
    """Read `python` or `python-3.12`; raises `UnknownLanguage`."""
    match = _SPELT.fullmatch(text)
    if match is None or match[1] not in LANGUAGES:
        raise UnknownLanguage("must be one of " + ", ".join(sorted(LANGUAGES)) + ", or one with a version such as python-3.12")
    wanted = Wanted(match[1], match[2])
    if wanted.version is not None and not wanted.language.has_versions:
        raise UnknownLanguage(f"has no versions to choose from; write 'type: {wanted.name}'")
    return wanted


def fill(templates: tuple[str, ...], component: str) -> tuple[str, ...]:
    """Commands or argv with the component's name in them."""
    return tuple(template.replace("{component}", component) for template in templates)
