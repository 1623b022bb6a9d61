"""The load generator's values: where it aims, what it asks, what it keeps, what it says of itself."""

import itertools
import resource
import time

import numpy as np
import orjson
import pytest

from engine.bench.load.answers import stream_code, usage
from engine.bench.load.prompts import Prompts, Task
from engine.bench.load.samples import CHUNK_ROWS, Code, Samples, Window
from engine.bench.load.shortage import raised
from engine.bench.load.target import Target
from engine.bench.load.watch import watch
from engine.errors import ConfigurationError

CHAT = Task(
    "sim", messages=({"role": "system", "content": "Be 100 % brief."}, {"role": "user", "content": "Lorem ipsum"})
)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://n1:8000", "http://n1:8000/v1/chat/completions"),
        ("http://n1:8000/v1/", "http://n1:8000/v1/chat/completions"),
        ("http://n1/deployments/a/v1", "http://n1:80/deployments/a/v1/chat/completions"),
        ("http://n1:1/v1/completions", "http://n1:1/v1/completions"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1/chat/completions"),
    ],
)
def test_a_target_is_completed_to_where_answers_are_given(url: str, told: str) -> None:
    assert str(Target.of(url)) == told


def test_the_head_of_a_request_carries_the_key_and_the_headers_given() -> None:
    head = Target.of("http://n1:80/v1", "secret", {"x-engine-experiment": "e1"}).head.decode()
    assert head.startswith("POST /v1/chat/completions HTTP/1.1\r\nhost: n1:80\r\n")
    assert "authorization: Bearer secret\r\nx-engine-experiment: e1\r\n" in head
    assert head.endswith("content-length: ")


@pytest.mark.parametrize("url", ["https://n1/v1", "n1:8000", "http://", "http://n1:port/v1", "ftp://n1/"])
def test_what_is_not_plain_http_is_no_target(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"http|URL"):
        Target.of(url)


@pytest.mark.parametrize("headers", [{"x": "a\r\ny: b"}, {"a:b": "c"}, {"x": "ä"}, {"": "x"}])
def test_headers_that_would_leave_their_line_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="header"):
        Target.of("http://n1/v1", headers=headers)


def test_no_two_prompts_begin_alike() -> None:
    texts = [orjson.loads(body)["messages"][0]["content"] for body in itertools.islice(Prompts(CHAT, seed=7), 20_000)]
    assert len({text.split()[0] for text in texts}) == len(texts)
    assert all(text.endswith(" Be 100 % brief.") for text in texts)
    assert all(one[:3] != other[:3] for one, other in itertools.pairwise(texts)), "not even a first token is shared"


def test_two_generators_ask_different_things_and_one_seed_the_same() -> None:
    first, second = Prompts(CHAT), Prompts(CHAT)
    assert not {next(first) for _ in range(100)} & {next(second) for _ in range(100)}
    assert next(Prompts(CHAT, seed=1)) == next(Prompts(CHAT, seed=1))


def test_prompts_that_share_their_prefix_differ_at_the_end_and_say_so() -> None:
    prompts = Prompts(CHAT, "shared")
    first, second = (orjson.loads(next(prompts))["messages"] for _ in range(2))
    assert first[0] == second[0]
    assert first[1]["content"].startswith("Lorem ipsum ") and first[1] != second[1]
    assert "prefix cache may" in prompts.says and "unique" in Prompts(CHAT).says


def test_a_body_holds_the_task_and_has_the_length_told() -> None:
    task = Task("m", prompt="one two", max_tokens=9, temperature=None, stream=True, parameters=(("seed", 3),))
    prompts = Prompts(task)
    body = next(prompts)
    asked = orjson.loads(body)
    assert asked.pop("prompt").endswith(" one two") and task.path == "/completions"
    assert asked == {
        "model": "m", "seed": 3, "max_tokens": 9, "stream": True, "stream_options": {"include_usage": True}
    }  # fmt: skip
    assert len(body) == prompts.body_bytes == len(next(prompts))


def test_pictures_keep_their_place_beside_the_digits() -> None:
    parts = [{"type": "image_url", "image_url": {"url": "data:"}}]
    asked = orjson.loads(next(Prompts(Task("m", messages=({"role": "user", "content": parts},)))))
    assert [part["type"] for part in asked["messages"][0]["content"]] == ["text", "image_url"]


def test_a_body_costs_about_a_microsecond() -> None:
    prompts = Prompts(CHAT)
    times = []
    for _ in range(5):
        began = time.thread_time()
        for _ in itertools.islice(prompts, 10_000):
            pass
        times.append((time.thread_time() - began) / 10_000)
    assert min(times) < 5e-6


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        (b'{"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}}', (5, 7, -1)),
        (b'{"usage": {"prompt_tokens":5,"completion_tokens":7,"prompt_tokens_details":{"cached_tokens":4}},"id":1}',
         (5, 7, 4)),
        (b'{"usage":{"prompt_tokens":5,"prompt_tokens_details":null}}', (5, -1, -1)),
        (b'{"choices":[{"text":"\\"usage\\":{\\"prompt_tokens\\":9}"}],"usage":{"completion_tokens":7}}', (-1, 7, -1)),
        (b'data: {"usage":{"completion_tokens":1}}\n\ndata: {"usage":{"completion_tokens":2}}\n\ndata: {"usage":null}',
         (-1, 2, -1)),
        (b'{"usage":{"prompt_tokens":-5,"completion_tokens":99999999999,"total":"x"}}', (-1, -1, -1)),
        (b'{"usage":{"prompt_tokens":x}}', (-1, -1, -1)),
        (b'{"usage":"none"}', (-1, -1, -1)),
        (b"", (-1, -1, -1)),
    ],
)  # fmt: skip
def test_tokens_are_those_that_the_server_counted_and_else_unknown(text: bytes, counted: tuple[int, int, int]) -> None:
    assert usage(text) == counted


@pytest.mark.parametrize(
    ("tail", "code"),
    [
        (b'data: {"choices":[]}\n\ndata: [DONE]\n\n', Code.OK),
        (b'data: {"choices":[],"error":null}\n\ndata:[DONE]\n\n', Code.OK),
        (b'data: {"choices":[]}\n\n', Code.BROKEN),
        (b'data: {"error":{"message":"out of memory"}}\n\ndata: [DONE]\n\n', Code.BROKEN),
        (b'data: {"choices":[{"delta":{"content":"data: [DONE]"}}]}\n\n', Code.BROKEN),
        (b"", Code.BROKEN),
    ],
)
def test_a_stream_is_whole_only_with_its_end_and_without_an_error(tail: bytes, code: Code) -> None:
    assert stream_code(tail) == code


def filled(count: int) -> Samples:
    """One request a second, each of 2 s; every tenth failed."""
    samples = Samples()
    for i in range(count):
        code = Code.HTTP if i % 10 == 9 else Code.OK
        samples.append(i - 2.0, i - 1.9, i - 1.0 if i % 2 else np.nan, float(i), 0.01, 200, code, 3, 5, i % 3 - 1, -1)
    return samples


def test_a_window_holds_what_ended_in_it_across_many_chunks() -> None:
    samples = filled(3 * CHUNK_ROWS + 10)
    for begin, end in ((0, 5), (4090, 4110), (CHUNK_ROWS, 2 * CHUNK_ROWS), (-5, 10**6), (12_290, 12_298)):
        window = samples.between(begin, end)
        right = np.arange(max(0, begin), min(end, len(samples)), dtype=float)
        assert np.array_equal(window["end"], right), (begin, end)
    assert len(Samples().between(0, 1)) == 0
    assert len(samples.between(50_000, 60_000)) == 0


def test_a_window_does_not_change_when_more_requests_end() -> None:
    samples = filled(10)
    window = samples.between(0, 100)
    samples.append(50, 50, np.nan, 51, 0, 200, Code.OK, 0, 1, 1, -1)
    assert len(window) == 10 and len(samples.between(0, 100)) == 11


def test_a_window_counts_errors_throughput_and_known_tokens() -> None:
    window = filled(100).between(0, 100)
    assert window.errors == {"http": 10} and len(window.answered) == 90
    assert window.throughput_rps == pytest.approx(0.9)
    assert window.latency_s == pytest.approx(np.full(100, 2.0))
    assert len(window.ttft_s) == 50 and window.ttft_s == pytest.approx(np.full(50, 1.0))
    assert window.tokens() == sum(i % 3 == 2 for i in range(100) if i % 10 != 9)
    assert window.tokens("cached_tokens") == -1


def window(latency_s: float, lag_s: float = 0.0) -> Window:
    samples = Samples()
    for i in range(100):
        samples.append(0.0, lag_s, np.nan, latency_s + i * 1e-6, lag_s, 200, Code.OK, 0, 1, 1, -1)
    return samples.between(0, 100)


def ticks(cpu: float, lag_s: float) -> np.ndarray:
    at = np.arange(0, 1, 0.01)
    return np.column_stack([at, np.full(100, lag_s), at * cpu])


@pytest.mark.parametrize(
    ("cpu", "loop_lag_s", "latency_s", "lag_s", "limited"),
    [
        (0.3, 0.0001, 0.1, 0.0, None),
        (0.95, 0.0001, 0.1, 0.0, "95% of its core"),
        (0.3, 0.004, 0.1, 0.0, "4.0 ms late on average, of a median latency of 100.0 ms"),
        (0.3, 0.004, 1.0, 0.0, None),
        (0.3, 0.0001, 0.1, 0.02, "more than 20.0 ms late"),
    ],
)
def test_the_generator_says_when_it_was_the_limit(
    cpu: float, loop_lag_s: float, latency_s: float, lag_s: float, limited: str | None
) -> None:
    found = watch(ticks(cpu, loop_lag_s), window(latency_s, lag_s))
    assert found.cpu == pytest.approx(cpu) and found.loop_lag_p99_s == pytest.approx(loop_lag_s)
    assert found.limited is None if limited is None else limited in (found.limited or "")


def test_the_limit_of_open_files_is_raised_only_as_far_as_it_may_be() -> None:
    assert [raised(needed, 1024, 4096) for needed in (100, 1024, 2000, 4096)] == [1024, 1024, 2000, 4096]
    assert raised(10**6, 1024, resource.RLIM_INFINITY) == 10**6
    with pytest.raises(ConfigurationError, match="may have 4096"):
        raised(5000, 1024, 4096)


def test_a_window_in_which_the_loop_never_came_round_is_not_passed() -> None:
    assert watch(ticks(0.1, 0.0)[:1], window(0.1)).limited
