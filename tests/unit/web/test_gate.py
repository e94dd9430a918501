"""Who may do what, by tokens, passwords and functions; wrong passwords are limited."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from pulse.config.access_rules import access_rules
from pulse.core.access import NOBODY, Access, Level
from pulse.errors import BadValueError, ConfigError
from pulse.testing.clock import FakeClock
from pulse.web import gate as gate_module
from pulse.web.gate import AccessFailedError, Gate, TooManyAttemptsError, access_function
from pulse.web.passwords import hash_password, is_password

if TYPE_CHECKING:
    from collections.abc import Mapping

READ_TOKEN, ACT_TOKEN = "r" * 20, "a" * 20
HASH = hash_password("correct horse")


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables of the rules."""
    monkeypatch.setenv("READ_TOKEN", READ_TOKEN)
    monkeypatch.setenv("ACT_TOKEN", ACT_TOKEN)


def opened(*rules: object) -> tuple[Gate, FakeClock]:
    """Return the gate of some rules, and its clock."""
    clock = FakeClock()
    return Gate(access_rules(list(rules)), clock), clock


def basic(user: str, password: str) -> dict[str, str]:
    """Return the environ of a request with a password."""
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"HTTP_AUTHORIZATION": f"Basic {text}"}


def bearer(token: str) -> dict[str, str]:
    """Return the environ of a request with a token."""
    return {"HTTP_AUTHORIZATION": f"Bearer {token}"}


def test_token_has_the_level_of_its_rule() -> None:
    """A rule without a level means read; the token of no rule means nothing."""
    gate, _ = opened("token:${READ_TOKEN}", "act token:${ACT_TOKEN}")
    assert gate.access_of(bearer(READ_TOKEN)) == Access(Level.READ, "token READ_TOKEN")
    assert gate.access_of(bearer(ACT_TOKEN)) == Access(Level.ACT, "token ACT_TOKEN")
    for environ in ({}, bearer("x" * 20), bearer(""), {"HTTP_AUTHORIZATION": ACT_TOKEN}):
        assert gate.access_of(environ) == NOBODY
    assert gate.challenges == ['Bearer realm="pulse"']


def test_password_has_the_level_of_its_rule() -> None:
    """The user is known by name; a wrong password means nothing."""
    gate, _ = opened(f"act basic:anna:{HASH}")
    assert gate.access_of(basic("anna", "correct horse")) == Access(Level.ACT, "anna")
    assert gate.access_of(basic("anna", "wrong")) == NOBODY
    assert gate.access_of(basic("bert", "correct horse")) == NOBODY
    assert gate.access_of({"HTTP_AUTHORIZATION": "Basic ???"}) == NOBODY
    assert gate.challenges == ['Basic realm="pulse", charset="UTF-8"']


def test_right_password_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each further request with it costs a tenth of a second less."""
    gate, _ = opened(f"basic:anna:{HASH}")
    hashed: list[str] = []

    def counted(password: str, known: str) -> bool:
        hashed.append(password)
        return is_password(password, known)

    monkeypatch.setattr(gate_module, "is_password", counted)
    for _ in range(3):
        assert gate.access_of(basic("anna", "correct horse")).who == "anna"
    assert hashed == ["correct horse"]


def test_wrong_passwords_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """After five, one each six seconds is looked at; who is known goes on."""
    gate, clock = opened(f"basic:anna:{HASH}")
    monkeypatch.setattr(gate_module, "is_password", lambda word, _: word == "right")
    assert gate.access_of(basic("anna", "right")).who == "anna"
    for _ in range(5):
        assert gate.access_of(basic("anna", "wrong")) == NOBODY
    with pytest.raises(TooManyAttemptsError) as caught:
        gate.access_of(basic("anna", "wrong"))
    assert caught.value.wait == 6
    assert gate.access_of(basic("anna", "right")).who == "anna"
    clock.forward(6)
    assert gate.access_of(basic("anna", "wrong")) == NOBODY


def test_right_passwords_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where many users log in at once."""
    users = [f"user{number}" for number in range(20)]
    gate, _ = opened(*(f"basic:{user}:{HASH}" for user in users))
    monkeypatch.setattr(gate_module, "is_password", lambda word, _: word == "right")
    assert [gate.access_of(basic(user, "right")).who for user in users] == users


def test_wrong_passwords_keep_out_nobody_whom_a_function_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Browsers send old passwords by themselves."""
    gate, _ = opened(f"basic:anna:{HASH}", by_header)
    monkeypatch.setattr(gate_module, "is_password", lambda *_: False)
    for _ in range(5):
        assert gate.access_of(basic("anna", "wrong") | {"HTTP_X": "none"}) == NOBODY
    with pytest.raises(TooManyAttemptsError):
        gate.access_of(basic("anna", "wrong") | {"HTTP_X": "none"})
    assert gate.access_of(basic("anna", "wrong") | {"HTTP_X": "act"}).level is Level.ACT


@pytest.mark.parametrize("credentials", ["", "\xe9", "%", "YW5uYQ", "/w==", "YW5uYQ=="])
def test_credentials_that_are_none_give_no_access(credentials: str) -> None:
    """Whatever bytes a client sends."""
    gate, _ = opened(f"basic:anna:{HASH}", "token:${READ_TOKEN}")
    for scheme in ("Basic", "Bearer"):
        assert gate.access_of({"HTTP_AUTHORIZATION": f"{scheme} {credentials}"}) == NOBODY


def test_user_has_one_rule() -> None:
    """Of two, one would be ignored."""
    with pytest.raises(BadValueError, match="expected one rule for each user, got"):
        access_rules([f"basic:anna:{HASH}", f"act basic:anna:{HASH}"])


def by_header(environ: Mapping[str, str]) -> object:
    """Return what a header asks for, as an application might."""
    given = {"act": Access("act", "anna"), "bool": True, "none": None, "bad": "act"}
    if environ.get("HTTP_X") == "raise":
        raise RuntimeError("no session")
    return given[environ["HTTP_X"]]


@pytest.mark.parametrize("rule", [by_header, "callable:tests.unit.web.test_gate:by_header"])
def test_function_returns_the_access(rule: object) -> None:
    """Given itself or by its name; the most that any rule permits counts."""
    gate, _ = opened(rule, "token:${READ_TOKEN}")
    assert gate.access_of({"HTTP_X": "act"}) == Access(Level.ACT, "anna")
    assert gate.access_of({"HTTP_X": "bool"}) == Access(Level.ACT)
    assert gate.access_of({"HTTP_X": "none"}) == NOBODY
    assert gate.access_of({"HTTP_X": "none"} | bearer(READ_TOKEN)).level is Level.READ
    for word in ("raise", "bad"):
        with pytest.raises(AccessFailedError):
            gate.access_of({"HTTP_X": word})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("token:plain-text-secret", "token:${NAME} of an environment variable"),
        ("act basic:anna:plain-text-secret", "a hash that pulse hash-password has made"),
        ("write token:${READ_TOKEN}", "one rule a line"),
        ("act callable:shop:login", "whose function returns the level"),
        ("callable:shop", "callable:package.module:name"),
        (7, "one rule a line"),
        ([], "one rule a line"),
    ],
)
def test_rule_that_is_none_is_refused(rule: object, expected: str) -> None:
    """The error does not show what may be a secret."""
    with pytest.raises(BadValueError) as caught:
        access_rules(rule if isinstance(rule, list) else [rule])
    assert expected in str(caught.value)
    assert "plain-text-secret" not in str(caught.value)


def test_missing_and_short_tokens_are_start_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them at once."""
    monkeypatch.setenv("SHORT", "abc")
    with pytest.raises(ConfigError) as caught:
        opened("token:${SHORT}", "token:${MISSING}", "basic:anna:${MISSING}")
    assert [one.partition(" needs")[0] for one in caught.value.problems] == [
        "access: token:${SHORT}",
        "access: token:${MISSING}",
        "access: basic:anna",
    ]


def test_rules_show_no_hash() -> None:
    """Error reports show local variables."""
    assert HASH not in repr(access_rules(f"basic:anna:{HASH}"))


def test_access_by_hand_is_a_bool_an_access_or_a_function() -> None:
    """Anything else is refused where the application is built."""
    found = [access_function(one)({}) for one in (True, False, Access("read", "anna"))]
    assert found == [Access(Level.ACT), NOBODY, Access(Level.READ, "anna")]
    for wrong in ("act", 1, Access("write")):
        with pytest.raises(ConfigError, match="access: expected an Access"):
            access_function(wrong)


def test_hash_of_another_form_is_of_no_password() -> None:
    """Neither one with a cost that would stop the process."""
    assert is_password("correct horse", HASH)
    for hashed in ("", "scrypt", "md5$1$2$3$4$5", HASH.replace("$14$", "$30$", 1), HASH[:-2]):
        assert not is_password("correct horse", hashed)
    assert HASH.split("$")[:4] == ["scrypt", "14", "8", "1"]


@pytest.mark.parametrize(
    ("value", "words"), [(None, "got none"), ("scrypt4812", "single quotes: it contains $")]
)
def test_variable_without_a_hash_is_named_with_what_came(
    value: str | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell expands the `$` of a hash in double quotes."""
    monkeypatch.delenv("ANNA", raising=False)
    if value is not None:
        monkeypatch.setenv("ANNA", value)
    with pytest.raises(ConfigError) as caught:
        Gate(access_rules("act basic:anna:${ANNA}"), FakeClock())
    assert words in str(caught.value)
