"""What is cut out of messages, and what is not: tables of forms both ways, and both at random places."""

from __future__ import annotations

import random
import time

import pytest

from alkaline_edge.codec import Codec
from alkaline_edge.failures import describe
from alkaline_edge.limits import MAX_MESSAGE
from alkaline_edge.redaction import redact, redact_deep

VALUE = "abcd1234efgh5678"
PRIVATE = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
SECRETS = [
    (f"OPENAI_API_KEY={VALUE}", VALUE),
    (f"access_token={VALUE}", VALUE),
    (f"client_secret={VALUE}", VALUE),
    (f'{{"api_key": "{VALUE}"}}', VALUE),
    (f"{{'apiKey': '{VALUE}', 'n': 1}}", VALUE),
    ('"{\\"token\\": \\"' + VALUE + '\\"}"', VALUE),
    ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA"),
    (f"Authorization: Bearer {VALUE}", VALUE),
    (f"authorization={VALUE}", VALUE),
    (f"headers {{'Authorization': 'token {VALUE}'}}", VALUE),
    (f"proxy-authorization: Digest username=bob, response={VALUE}", VALUE),
    (f"sent with bearer {VALUE}", VALUE),
    (f"Cookie: session={VALUE}; theme=dark", VALUE),
    ("postgresql://bob:s3cretpass@db/x", "s3cretpass"),
    ("redis://:s3cretpass@cache:6379/0", "s3cretpass"),
    ("amqp://bob:p@ss@word@mq/x", "ss@word"),
    (f"https://{VALUE}@git.example/repo.git", VALUE),
    ("password=hunter2", "hunter2"),
    ("password: hunter2", "hunter2"),
    ("password: correcthorse", "correcthorse"),
    ("PGPASSWORD=abc", "=abc"),
    ('password="two words"', "two words"),
    ("mysql --password=hunter2 -h db", "hunter2"),
    (f"curl --token {VALUE} x", VALUE),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefghijklmnop", "eyJzdWIiOiIxIn0"),
    (f"aws_secret_access_key={VALUE}ABCD", VALUE),
    ("the key is AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE"),
    ("sk-ant-api03-abcdefghijklmnop", "api03"),
    ("Incorrect API key provided: sk-proj-abcd1234efgh5678", VALUE),
    (f"ghp_{VALUE}{VALUE}", VALUE),
    (f"github_pat_{VALUE}", VALUE),
    ("xoxb-123456789012-abcdef", "123456789012"),
    ("AIzaSyA-abcdefghijklmnopqrstuvwxyz123456", "abcdefghij"),
    (f"https://store.example/a?sig={VALUE}&x=1", VALUE),
    (f"https://s3.example/a?X-Amz-Credential=me&X-Amz-Signature={VALUE}", VALUE),
    (f"AccountName=me;AccountKey={VALUE}==;Endpoint=x", VALUE),
    (PRIVATE, "MIIEowIBAAKCAQEA"),
    ("no access with Zx81Kq0Tt3Lm9Qw7Rb2Vn5Yc", "Zx81Kq0Tt3"),
    ("file:///home/bob/report", "bob"),
    ("can't open /home/bob/x/y.txt: busy", "bob"),
    ("can't open '/Users/bob/Library/x y'", "bob"),
    ("in C:\\Users\\bob\\AppData\\x.txt", "bob"),
    ("~bob/.ssh/id_rsa is open to all", "bob"),
    ("/root/.aws/credentials is missing", ".aws"),
    ("failed\nTraceback (most recent call last):\n  File x", "File x"),
]
KEPT = [
    "can't parse /srv/repo/pkg/mod.py: line 3",
    "GET /v1/users/42 answered 429",
    "GET /users/home/42 answered 404",
    "no route to https://api.example.com/v1/users",
    "https://api.example.com/home/feed answered 500",
    "https://api.example.com:8443/v1?page=2&limit=50",
    "mail ann@example.com bounced",
    "ratio 3/4 is over 1/2",
    "r/w on C:\\data\\x.txt",
    "password must be at least 8 characters",
    "password: too short",
    "password incorrect for this account",
    "invalid token: expired",
    "unexpected token: identifier",
    "bearer authentication failed",
    "basic understanding required",
    "authorization header missing",
    "authorization: denied",
    "max tokens: 4096",
    "used 1,234 tokens; tokens=50000",
    "secret santa is on monday",
    "key=customer is missing",
    "KeyError: 'customer'",
    "keyboard=de, monkey: bananas",
    "commit 3f2a9c1b5d7e8f0a1b2c3d4e5f60718293a4b5c6 is not on main",
    "run exe_01234567890abcdef is suspended",
    "id 550e8400-e29b-41d4-a716-446655440000 is taken",
    "digest sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "MyVeryLongExceptionClassName2ForThings failed",
    "2026-11-26T15:00:49.123456+00:00 is in the past",
    "the task-runner-for-2026-reports is busy",
    "line 3: expected ':' before 'else'",
    "price: 3.50 EUR/kg",
    "token=None",
    "ctx.spend('x') went over the budget: 120 of 100 tokens; start it with a larger budget",
]


@pytest.mark.parametrize(("text", "secret"), SECRETS, ids=range(len(SECRETS)))
def test_what_looks_like_a_secret_is_cut_out(text: str, secret: str) -> None:
    """Whatever its form: the value is gone, and cutting twice changes nothing more."""
    found = redact(text)
    assert secret not in found
    assert redact(found) == found


@pytest.mark.parametrize("text", KEPT)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    """Paths, routes, URLs, ratios, digests, ids and prose are what a message is about."""
    assert redact(text) == text


def test_forms_are_found_wherever_they_stand() -> None:
    """Between other words and forms, on lines of their own, and across the border of what is kept."""
    draw = random.Random(7)
    for _ in range(400):
        text, secret = draw.choice(SECRETS[:-1])
        before, after = draw.choice(KEPT), draw.choice(KEPT)
        joint = draw.choice(["\n", ". ", ", ", " (", "; "])
        found = redact(f"{before}{joint}{text}\n{after}")
        assert secret not in found, (before, joint, text)
        assert found.startswith(before)
        assert found.endswith(after)
    for place in range(MAX_MESSAGE - 40, MAX_MESSAGE + 5):
        message = describe(ValueError("x" * (place - 1) + f" access_token={VALUE}"), Codec())["message"]
        assert len(message) <= MAX_MESSAGE
        assert "abcd" not in message


def test_a_detail_is_cut_by_its_names_too() -> None:
    """Under a name that says secret nothing stays, however it looks; under others only what is no secret."""
    detail = {"api_key": "x", "password": "correct horse", "n": 3, "path": "/srv/a", "list": ["password=hunter2"],
              "headers": {"Authorization": "x y"}, "tokens": 5, "access_token": ["a"], "monkey": "banana"}  # fmt: skip
    assert redact_deep(detail) == {
        "api_key": "<secret>", "password": "<secret>", "n": 3, "path": "/srv/a", "list": ["password=<secret>"],
        "headers": {"Authorization": "<secret>"}, "tokens": 5, "access_token": ["<secret>"], "monkey": "banana",
    }  # fmt: skip


@pytest.mark.parametrize(
    "piece",
    ["a", "token", "token ", "key=", "password: ", "://", "a://b:", "/home/", "eyJaaaaa.", "A1b", "-----BEGIN ",
     "--key ", "\\\"", "bearer ", "cookie:", "?key=", " ", "=", "@"],
)  # fmt: skip
def test_a_long_message_costs_little(piece: str) -> None:
    """Whoever throws it decides on its length: what is looked at is bounded, and no form is quadratic in it."""
    begun = time.process_time()
    redact(piece * (1_000_000 // len(piece)))
    assert time.process_time() - begun < 0.5
