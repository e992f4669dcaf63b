"""Allocators that are other programs: what is asked and answered, and what goes wrong."""

import gc
import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from wattfill.errors import InputError
from wattfill.testing import FEATURES, LAWS, LawBrokenError, Program, Spec, check_allocator, solve
from wattfill.testing.program import ALL_FRESH, IDLE, LEAVING
from wattfill.testing.trial import NoAnswerError, TookTooLongError

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
ONE = {"minimum": [0.0, 0.0], "maximum": [7.0, 7.0], "capacity": 10.0}
# It takes no steps.
REFERENCE = """
import json, sys
from wattfill.testing import solve
for line in sys.stdin:
    request = json.loads(line)
    n = request.pop("id")
    answer = {"error": "no steps"} if "step" in request else {"power": solve(**request).power}
    print(json.dumps({"id": n, **answer}), flush=True)
"""
HALVES = """
    n = len(request["minimum"])
    answer(power=[request["capacity"] / n] * n)
"""


def program(body, *, before="", after="", **options):
    """Return a program that runs a body for each request; `answer` answers it."""
    code = "\n".join(
        [
            "import json, os, sys",
            before,
            "def answer(**parts):",
            "    print(json.dumps({'id': request['id'], **parts}), flush=True)",
            "for line in sys.stdin:",
            "    request = json.loads(line)",
            body,
            after,
        ]
    )
    # -I and -S leave out what takes longest to start.
    return Program([sys.executable, "-I", "-S", "-c", code], **options)


@pytest.fixture
def few_shrinks(monkeypatch):
    """Show what is broken, but not as small as can be."""
    monkeypatch.setattr("wattfill.testing.conformance.SHRINKING", 400)


def children():
    """Return the processes that this one has started, those included that nobody waited for."""
    tasks = Path("/proc/self/task").glob("*/children")
    return {child for task in tasks for child in task.read_text().split()}


@pytest.fixture(autouse=True)
def nothing_is_left():
    before = children()
    yield
    gc.collect()
    assert children() <= before


# What is asked and answered


def test_a_program_answers_powers():
    with program(HALVES) as halves:
        assert halves()(**ONE) == [5.0, 5.0]


def test_only_arguments_in_use_are_asked_with():
    seen = []
    with program("    answer(power=[], seen=request)") as echo:
        allocate = echo()
        for batch in ({"capacity": 1.0}, {"capacity": [2.0], "offsets": [0, 0]}):
            batch = {"minimum": [], "maximum": [], **batch}
            allocate(**batch)
            seen.append(allocate._process.ask(batch, 10.0)["seen"])

    assert seen == [
        {"id": 2, "minimum": [], "maximum": [], "capacity": 1.0},
        {"id": 4, "minimum": [], "maximum": [], "capacity": [2.0], "offsets": [0, 0]},
    ]


@pytest.mark.parametrize("x", [5e-324, 0.1 + 0.2, 1e300, 2.0**53 - 1])
def test_doubles_arrive_and_return_as_they_are(x):
    with program("    answer(power=request['maximum'])") as echo:
        assert echo()(minimum=[0.0], maximum=[x], capacity=1.0) == [x]


def test_requests_and_answers_are_larger_than_a_pipe_holds():
    # Half a megabyte each way, while the program writes before it has read all.
    many = [0.1 + i for i in range(40_000)]
    with program("    answer(power=request['maximum'])") as echo:
        assert echo()(minimum=many, maximum=many, capacity=1.0) == many


def test_what_a_program_complains_of_blocks_nothing():
    chatty = "    print('x' * 300_000, file=sys.stderr, flush=True)" + HALVES
    with program(chatty, after="print('x' * 300_000, file=sys.stderr, flush=True)") as halves:
        allocate = halves()

        assert [allocate(**ONE) for _ in range(3)] == [[5.0, 5.0]] * 3


def test_a_run_asks_and_answers_as_the_schema_says(few_shrinks):
    schema = json.loads(files("wattfill.testing").joinpath("protocol.schema.json").read_text())
    request, answer = (
        jsonschema.Draft202012Validator({**schema, "$ref": f"#/$defs/{name}"})
        for name in ("request", "answer")
    )
    lines = []

    class Heard(Program):
        def lend(self, fresh):
            process = super().lend(fresh)
            exchange = process._exchange
            process._exchange = lambda asked, seconds: heard(exchange, asked, seconds)
            return process

    def heard(exchange, asked, seconds):
        answered = exchange(asked, seconds)
        lines.append((asked, answered))
        return answered

    with Heard([sys.executable, "-c", REFERENCE]) as reference:
        check_allocator(reference, spec=Spec(), max_examples=12, seed=1, on_fail="return")

    assert len(lines) > 50
    for asked, answered in lines:
        request.validate(json.loads(asked))
        answer.validate(json.loads(answered))
    assert any(b'"error"' in answered for _, answered in lines)
    assert {key for asked, _ in lines for key in json.loads(asked)} == set(
        schema["$defs"]["request"]["properties"]
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"power": [1]},
        {"id": 1},
        {"id": 1, "power": ["1"]},
        {"id": 1, "power": [1], "error": "none"},
        {"id": "1", "power": []},
    ],
)
def test_what_is_no_answer_is_none_by_the_schema_either(bad):
    schema = json.loads(files("wattfill.testing").joinpath("protocol.schema.json").read_text())

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(bad, {**schema, "$ref": "#/$defs/answer"})


def test_the_protocol_documents_every_name_of_the_schema():
    schema = json.loads(files("wattfill.testing").joinpath("protocol.schema.json").read_text())
    text = (EXAMPLES.parent / "verify-protocol.md").read_text()

    for part in ("request", "answer"):
        for name in schema["$defs"][part]["properties"]:
            assert f"`{name}`" in text


# The examples


@pytest.mark.parametrize(
    ("interpreter", "example"), [("node", "waterfill.js"), (sys.executable, "waterfill.py")]
)
def test_an_example_keeps_every_law_that_applies(interpreter, example):
    if shutil.which(interpreter) is None:
        pytest.skip(f"{interpreter} is not here")
    spec = Spec(features={"buffer", "reserved", "active"}, pausing=False)

    with Program([interpreter, str(EXAMPLES / example)]) as waterfill:
        report = check_allocator(waterfill, spec=spec, max_examples=20, seed=1)

    assert report.ok
    assert sum(v.status == "held" for v in report.verdicts) > 10


# What goes wrong


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    sys.exit(3)", "it ended with exit status 3"),
        ("    os.kill(os.getpid(), 9)", "it was ended by SIGKILL"),
        (
            "    sys.exit('no idea')",
            "it ended with exit status 1; the end of its standard error: no idea",
        ),
        (
            "    sys.exit('a' * 10_000)",
            f"it ended with exit status 1; the end of its standard error: ...{'a' * 400}",
        ),
        ("    os.close(1); sys.stdin.read()", "it closed its standard output"),
        ("    print('hello', flush=True)", "it answered 'hello', which is no JSON"),
        (
            "    sys.stdout.buffer.write(b'\\xff\\n'); sys.stdout.flush()",
            r"it answered '\\xff', which is no JSON",
        ),
        ("    print('[' * 9999, flush=True)", f"it answered '{'[' * 80}...', which is no JSON"),
        ("    print('[1]', flush=True)", "it answered '[1]', which is no object"),
        ("    request['id'] = 7; answer(power=[1, 1])", "it answered with id 7 to request 1"),
        ("    del request['id']; print('{}', flush=True)", "it answered with id None to request 1"),
        ("    answer(error='too many')", "it answered the error 'too many'"),
        ("    answer(power='1')", "it answered neither a list as power nor an error"),
        ("    answer()", "it answered neither a list as power nor an error"),
        ("    answer(power=[1, None])", "it answered None for connector 1, which is no number"),
        ("    answer(power=[True])", "it answered True for connector 0, which is no number"),
    ],
)
def test_what_is_no_answer_is_told_in_one_sentence(body, message):
    with program(body) as faulty, pytest.raises(NoAnswerError) as refused:
        faulty()(**ONE)

    assert str(refused.value) == message


def test_a_line_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr("wattfill.testing.program.LONGEST_LINE", 1_000_000)
    endless = "    while True: print('x' * 99_999, end='', flush=True)"

    with program(endless) as faulty, pytest.raises(NoAnswerError) as refused:
        faulty()(**ONE)

    assert str(refused.value) == "it answered 1000000 bytes without the end of a line"


def test_numbers_that_are_no_doubles_are_no_powers():
    with program("    print('{\"id\": 1, \"power\": [1' + '0' * 400 + ', NaN]}', flush=True)") as p:
        powers = p()(**ONE)

    assert powers[0] == float("inf")
    assert powers[1] != powers[1]


def test_who_takes_too_long_is_ended_and_started_again():
    stuck = (
        "    if request['capacity'] == 0: print('hm', file=sys.stderr); sys.stdin.read()\n" + HALVES
    )
    with program(stuck) as faulty:
        allocate = faulty()
        allocate(**ONE)
        before, faulty.time_limit = allocate._process, 1.0
        with pytest.raises(TookTooLongError) as refused:
            allocate(**ONE | {"capacity": 0})

        faulty.time_limit = 10.0
        assert str(refused.value) == (
            "it did not answer within 1 s; the end of its standard error: hm"
        )
        assert allocate(**ONE) == [5.0, 5.0]
        assert allocate._process is not before
        assert before._child.returncode == -9


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system has no pidfd_open")
def test_what_a_program_has_started_is_ended_with_it():
    # The child of the child holds the pipes, too.
    code = "import time; time.sleep(600)"
    starts = (
        f"    import subprocess; child = subprocess.Popen([sys.executable, '-c', {code!r}]); "
        "print(child.pid, file=sys.stderr, flush=True); "
        "print('no answer', flush=True); child.wait()"
    )
    with program(starts) as faulty, pytest.raises(NoAnswerError) as refused:
        faulty()(**ONE)

    with suppress(ProcessLookupError):
        # It is not ours to wait for, but this can be read once it has ended.
        child = os.pidfd_open(int(str(refused.value).split()[-1]))
        ended, _, _ = select.select([child], [], [], 60)
        os.close(child)

        assert ended


def test_a_time_limit_of_the_caller_ends_it_too(few_shrinks):
    # As check_allocator's, which is shorter once an answer did not come.
    with program("    sys.stdin.read()") as faulty:
        report = check_allocator(
            faulty, spec=Spec(features=()), max_examples=2, time_limit=0.2, on_fail="return"
        )

    answered = next(v for v in report.verdicts if v.law is LAWS["an answer for everyone"])
    assert answered.counterexample.found == "it did not answer within 0.2 s"


def test_outside_the_main_thread_there_is_a_time_limit_too():
    caught = []

    def ask():
        try:
            LAWS["an answer for everyone"](ONE, faulty)
        except LawBrokenError as broken:
            caught.append(broken.found)

    with program("    sys.stdin.read()", time_limit=0.2) as faulty:
        thread = threading.Thread(target=ask)
        thread.start()
        thread.join(30)

    assert caught == ["it did not answer within 0.2 s"]


def test_a_dead_program_is_started_again():
    with program(HALVES + "    sys.exit()") as once:
        allocate = once()
        for _ in range(2):
            assert allocate(**ONE) == [5.0, 5.0]
            with pytest.raises(NoAnswerError, match=r"^it ended with exit status 0$"):
                allocate(**ONE)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("", "the command must name a program, got nothing"),
        ("'share", 'the command "\'share" cannot be split: No closing quotation'),
        ("no-such-program -x", "there is no program 'no-such-program' that can be run"),
    ],
)
def test_what_is_no_program_is_refused(command, message):
    with pytest.raises(InputError) as refused:
        Program(command)

    assert str(refused.value) == message


def test_a_file_that_is_no_program_is_no_answer(tmp_path):
    path = tmp_path / "program"
    path.write_bytes(b"\0\0")
    path.chmod(0o700)

    with Program([str(path)]) as faulty, pytest.raises(NoAnswerError) as refused:
        faulty()(**ONE)

    assert str(refused.value) == "it cannot be started: Exec format error"


def test_no_shell_is_between():
    command = f"{sys.executable} -c 'import sys; sys.exit(sys.argv[1])' '$HOME; echo | x'"

    with Program(command) as faulty, pytest.raises(NoAnswerError) as refused:
        faulty()(**ONE)

    assert str(refused.value).endswith(": $HOME; echo | x")


# Fresh processes, and few of them

COUNTS = "    count += 1; answer(power=[count] * 2)"


def test_an_allocator_keeps_its_process():
    with program(COUNTS, before="count = 0") as counts:
        one, other = counts(), counts()

        assert [one(**ONE)[0] for _ in range(3)] == [1.0, 2.0, 3.0]
        assert other(**ONE)[0] == 1.0


def test_the_first_allocators_are_fresh_and_then_fewer_and_fewer():
    with program(COUNTS, before="count = 0") as counts:
        fresh = [counts()(**ONE)[0] == 1.0 for _ in range(4 * ALL_FRESH)]

    first = list(itertools.takewhile(lambda k: fresh[k - 1], range(1, 4 * ALL_FRESH)))
    assert len(first) == ALL_FRESH - 1
    assert sum(fresh) < 2 * ALL_FRESH
    # Of pairs, the first and the second.
    late = [k % 2 for k in range(2 * ALL_FRESH, 4 * ALL_FRESH) if fresh[k]]
    assert {*late} == {0, 1}


def test_no_more_processes_wait_than_are_told_to():
    with program(HALVES) as halves:
        for _ in range(ALL_FRESH):
            halves()(**ONE)

        assert len(halves._running) <= IDLE + LEAVING + 1


def test_a_broken_law_keeps_no_process(few_shrinks):
    with program("    answer(power=[1e9] * len(request['minimum']))") as faulty:
        report = check_allocator(
            faulty, spec=Spec(features=()), max_examples=20, seed=1, on_fail="return"
        )
        assert len(report.broken) > 2
        gc.collect()

        assert len(faulty._running) <= IDLE + LEAVING + 1


def test_state_that_a_program_keeps_breaks_a_law(few_shrinks):
    keeps = "    least = min(least, request['capacity'])\n    request['capacity'] = least" + HALVES
    with program(keeps, before="least = 1e9") as faulty:
        report = check_allocator(
            faulty, spec=Spec(features=()), max_examples=6, seed=1, on_fail="return"
        )

    assert "history does not matter" in {v.law.name for v in report.broken}


def test_a_program_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr("wattfill.testing.program.SECONDS_TO_LEAVE", 0.1)
    with program(HALVES, after="import time; time.sleep(600)") as halves:
        allocate = halves()
        allocate(**ONE)
        child = allocate._process._child

    assert child.returncode == -9


def test_processes_end_with_whoever_started_them():
    code = (
        "import sys; from wattfill.testing import Program\n"
        "p = Program([sys.executable, '-c', 'input()'])\n"
        "a = p()\n"
        "try: a(minimum=[], maximum=[], capacity=1.0)\n"
        "except Exception: pass\n"
        "b = p(); b._process = p.lend(True)\n"
        "print(b._process._child.pid)"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60
    )

    assert done.stderr == ""
    assert not Path("/proc", done.stdout.strip()).exists()


def test_nothing_warns_when_a_program_is_forgotten():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        halves = program(HALVES)
        allocate = halves()
        allocate(**ONE)
        child = allocate._process._child
        del halves, allocate
        gc.collect()

    assert child.returncode == 0


def test_the_reference_as_a_program_is_exact():
    spec = Spec(features={*FEATURES} - {"step"}, tolerance=0.0)

    with Program([sys.executable, "-c", REFERENCE]) as reference:
        report = check_allocator(reference, spec=spec, max_examples=8, seed=1)

        assert report.ok
        assert reference()(**ONE) == solve(**ONE).power
