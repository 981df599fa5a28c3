"""Right and wrong answers, told apart to the last byte."""

from __future__ import annotations

import pytest

from edge_server.drill.answers import Answer, BadAnswer, parse_head
from edge_server.drill.targets import (
    RANGE_MAX_BYTES,
    WHOLE_MAX_BYTES,
    Object,
    Question,
    Questions,
    is_rejection,
    tag_of,
)

BODY = bytes(range(256)) * 4
OBJECT = Object("/edge/assets/a", tag_of(BODY), BODY)
WHOLE = Question(OBJECT, {}, 200, 0, len(BODY))
PART = Question(OBJECT, {}, 206, 10, 20)
SAME = Question(OBJECT, {}, 304, 0, 0)
TAG = {"etag": OBJECT.tag}
RANGE = {**TAG, "content-range": f"bytes 10-19/{len(BODY)}"}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (WHOLE, Answer(200, TAG, BODY)),
        (PART, Answer(206, RANGE, BODY[10:20])),
        (SAME, Answer(304, TAG, b"")),
        (WHOLE, Answer(503, {"x-reason": "timeout", "retry-after": "1"}, b"{}")),
    ],
    ids=["whole", "part", "unchanged", "refused"],
)
def test_a_right_answer_has_no_fault(question: Question, answer: Answer) -> None:
    assert question.fault_of(answer) == ""


@pytest.mark.parametrize(
    ("question", "answer", "words"),
    [
        (WHOLE, Answer(200, TAG, BODY[:-1] + b"x"), "does not hash"),
        (WHOLE, Answer(200, TAG, BODY[:-1]), "does not hash"),
        (WHOLE, Answer(200, {}, BODY), "ETag None"),
        (WHOLE, Answer(200, {"etag": tag_of(b"other")}, b"other"), "ETag"),
        (WHOLE, Answer(404, {"x-reason": "not_found"}, b""), "status 404"),
        (WHOLE, Answer(503, {}, b""), "status 503"),
        (PART, Answer(206, RANGE, BODY[11:21]), "other bytes"),
        (PART, Answer(206, {**RANGE, "content-range": "bytes 10-20/1024"}, BODY[10:20]), "Content-Range"),
        (PART, Answer(206, {**RANGE, "etag": '"b3:00"'}, BODY[10:20]), "ETag"),
        (PART, Answer(200, TAG, BODY), "status 200, not 206"),
        (SAME, Answer(304, TAG, b"x"), "other bytes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_answer_is_told(question: Question, answer: Answer, words: str) -> None:
    assert words in question.fault_of(answer)


def test_a_refusal_needs_reason_and_retry_after() -> None:
    assert is_rejection(Answer(429, {"x-reason": "busy", "retry-after": "1"}, b""))
    assert not is_rejection(Answer(429, {"x-reason": "busy"}, b""))
    assert not is_rejection(Answer(500, {"x-reason": "internal", "retry-after": "1"}, b""))


def test_questions_are_of_every_kind_and_stay_within_the_object() -> None:
    large = Object("/edge/assets/large", tag_of(b""), bytes(WHOLE_MAX_BYTES + 1))
    questions = Questions([OBJECT, large, Object("/edge/assets/empty", tag_of(b""), b"")], 7)
    asked = [questions.next() for _ in range(2000)]
    assert {one.status for one in asked} == {200, 206, 304}
    for one in asked:
        assert 0 <= one.start <= one.stop <= len(one.of.body)
        if one.status == 206:
            assert 0 < one.stop - one.start <= RANGE_MAX_BYTES
        assert not (one.of is large and one.status == 200)


def test_the_same_seed_asks_the_same() -> None:
    first, second, other = (Questions([OBJECT], seed) for seed in (1, 1, 2))
    asked = [[questions.next() for _ in range(50)] for questions in (first, second, other)]
    assert asked[0] == asked[1] != asked[2]


def test_a_head_is_read_with_fields_in_any_case() -> None:
    status, fields = parse_head(b'HTTP/1.1 206 Partial Content\r\nETAG: "a"\r\nx-y:  z \r\n\r\n')
    assert (status, fields) == (206, {"etag": '"a"', "x-y": "z"})


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"hello\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n",
    ],
)
def test_what_is_no_head_of_an_answer_is_refused(head: bytes) -> None:
    with pytest.raises(BadAnswer):
        parse_head(head)
