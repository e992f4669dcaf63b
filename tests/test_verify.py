"""wattfill verify: the laws from the command line."""

import json
import os
import pty
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from wattfill.cli import main
from wattfill.testing import LAWS, LawBrokenError, check_allocator
from wattfill.testing.conformance import DEFAULT_EXAMPLES
from wattfill.testing.target import expected_failures, find_allocator

ALLOCATORS = '''
import sys

print("imported")


def fill(minimum, maximum, capacity, **more):
    """Right, whatever the features."""
    from wattfill.testing import solve

    return solve(minimum, maximum, capacity, **more).power


def alike(minimum, maximum, capacity):
    """Right for one group where nobody has to wait."""
    return fill(minimum, maximum, capacity)


def least(minimum, maximum, capacity, buffer=0.0):
    """All that it breaks is one law: what is left is wasted."""
    print("asked")
    return minimum


def leaves(minimum, maximum, capacity):
    sys.exit()


class Shares:
    fill = staticmethod(fill)

    def __call__(self, minimum, maximum, capacity):
        return alike(minimum, maximum, capacity)


class Broken:
    def __init__(self):
        raise RuntimeError("no licence")


def makes_nothing():
    return None


class Hidden:
    def __getattr__(self, name):
        raise AttributeError(name)


number = 7
'''
FEW = ["--max-examples", "20", "--seed", "1"]
ALIKE = ["shares.py:alike", "--no-pausing", *FEW]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Stand in a folder with a module of allocators."""
    (tmp_path / "shares.py").write_text(ALLOCATORS)
    (tmp_path / "fails.py").write_text("import no_such_thing")
    (tmp_path / "leaves.py").write_text("raise SystemExit(0)")
    monkeypatch.chdir(tmp_path)
    # What is broken need not be as small as can be.
    monkeypatch.setattr("wattfill.testing.conformance.SHRINKING", 1_000)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    for name in ("shares", "fails", "leaves"):
        sys.modules.pop(name, None)


@pytest.fixture
def verify(capsys):
    """Run `wattfill verify`; return its exit status, and what it prints."""

    def run(*arguments):
        status = main(["verify", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def run(*arguments, **options):
    """Run the command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "wattfill", "verify", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        **options,
    )


def statuses(text):
    """Return the status of each law in a table."""
    words = "held|broken|expected|unexpected|does not apply|not judged"
    return dict(re.findall(rf"(?m)^(\S.*?) {{2,}}({words})(?: |$)", text))


# What it prints


def test_who_keeps_all_laws_exits_with_0(verify):
    status, out, err = verify(*ALIKE)

    assert status == 0
    assert list(statuses(out)) == list(LAWS)
    assert "held" in statuses(out).values()
    assert "broken" not in statuses(out).values()
    assert "\n20 sites, seed 1\n" in out
    assert err == "imported\n"


def test_who_breaks_a_law_exits_with_1_and_the_smallest_site(verify, monkeypatch):
    monkeypatch.setattr("wattfill.testing.conformance.SHRINKING", 10_000)

    status, out, _ = verify("shares.py:least", "--no-pausing", *FEW)

    assert status == 1
    assert [law for law, word in statuses(out).items() if word == "broken"] == ["nothing is wasted"]
    table = out[out.index("nothing is wasted: connector 0 gets") :].split("\n\n")[1].splitlines()
    assert table[0].startswith("group 0: capacity ")
    assert table[1].split() == ["connector", "minimum", "maximum", "got", "reference"]
    found = json.loads(table[-1])
    assert len(found["batch"]["minimum"]) == 1
    with pytest.raises(LawBrokenError):
        LAWS["nothing is wasted"](found["batch"], found["power"])


def test_the_last_lines_repeat_the_run(verify):
    arguments = ["shares.py:least", "--features", "buffer", "--no-pausing", "--any-order"]
    arguments += [
        "--expect",
        "nothing-is-wasted=so it is",
        "--max-examples",
        "30",
        "--time-limit",
        "5",
    ]
    _, first, _ = verify(*arguments)

    *_, command, versions = first.splitlines()
    prefix, *words = shlex.split(command.removeprefix("to repeat it: "))
    assert prefix == "wattfill"
    assert re.fullmatch(r"with wattfill \S+, hypothesis \S+, Python \S+", versions)
    assert verify(*words[1:])[:2] == (0, first)


def test_kinds_of_sites_are_counted(verify):
    _, out, _ = verify(*ALIKE)

    assert re.search(r"(?m)^of which: .*some alike \d+", out)
    assert re.search(r"(?m)^of which none: ", out)


def test_json_is_the_report(verify):
    status, out, _ = verify("shares.py:least", "--no-pausing", *FEW, "--json")

    document = json.loads(out)
    assert status == 1
    assert list(document) == [
        "allocator", "ok", "seed", "examples", "kinds", "laws", "repeat", "versions",
    ]  # fmt: skip
    assert (document["ok"], document["seed"], document["examples"]) == (False, 1, 20)
    assert [law["law"] for law in document["laws"]] == list(LAWS)
    broken = next(law for law in document["laws"] if law["status"] == "broken")
    assert broken["counterexample"]["answers"][0]["batch"]["capacity"] >= 0
    assert document["repeat"].endswith("--no-pausing --seed 1")


# What is promised


@pytest.mark.parametrize(
    ("options", "law", "status"),
    [
        ([], "other groups do not matter", "held"),
        (["--features", ""], "other groups do not matter", "does not apply"),
        (["--features", "offsets, step"], "powers are whole steps", "held"),
        (["--features", "offsets,step"], "idle gets zero", "does not apply"),
        (["--no-pausing"], "nobody is paused who would have fitted", "does not apply"),
        (["--any-order"], "who comes first is admitted first", "does not apply"),
        ([], "the answer is that of the reference", "does not apply"),
        (["--exact"], "the answer is that of the reference", "held"),
        (["--tolerance", "0"], "the answer is that of the reference", "held"),
        (["--tolerance", "0.5"], "the answer is that of the reference", "does not apply"),
        (["--expect", "never over=so it is"], "never over", "unexpected"),
    ],
)
def test_an_option_decides_which_laws_apply(options, law, status, verify):
    code, out, _ = verify("shares.py:fill", *options, "--max-examples", "30", "--seed", "1")

    assert code == 0
    assert statuses(out)[law] == status


def test_an_expected_failure_is_none(verify):
    expected = [f"--expect={name}=so it is" for name in LAWS]

    status, out, _ = verify("shares.py:least", "--no-pausing", *FEW, *expected)

    assert status == 0
    assert re.search(r"(?m)^nothing is wasted +expected +so it is$", out)
    assert "{" not in out


def test_a_law_that_is_expected_to_be_broken_may_be_written_with_hyphens():
    assert expected_failures(["never-over = a=b", "idle_gets_zero=x"]) == {
        "never over": "a=b",
        "idle gets zero": "x",
    }


def test_a_time_limit_is_that_of_an_answer(verify, folder):
    (folder / "shares.py").write_text("def stuck(minimum, maximum, capacity):\n    while 1: pass\n")

    status, out, _ = verify("shares.py:stuck", "--time-limit", "0.1", "--max-examples", "2")

    assert status == 1
    assert "an answer for everyone: it did not answer within 0.1 s\n" in out
    assert "--time-limit 0.1 " in out


# What is found


@pytest.mark.parametrize(
    "name",
    [
        "shares.py:alike",
        "shares:alike",
        "shares:Shares",
        "./shares.py:Shares",
        "shares:Shares.fill",
    ],
)
def test_an_allocator_is_found_by_module_or_file(name, verify):
    status, out, _ = verify(name, "--features", "", "--no-pausing", *FEW)

    assert status == 0
    assert f"wattfill verify {name} " in out


def test_a_file_imports_what_lies_beside_it(folder):
    (folder / "below").mkdir()
    (folder / "below" / "beside.py").write_text("def share(): return 7")
    (folder / "below" / "mine.py").write_text("from beside import share")

    assert find_allocator("below/mine.py:share")() == 7


def test_a_file_may_have_the_name_of_a_module(folder):
    (folder / "json.py").write_text("def share(): return 7")

    assert find_allocator("json.py:share")() == 7
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "verify takes an allocator as MODULE:FUNCTION, or a program with --exec"),
        (
            ["shares:fill", "--exec", "x"],
            "verify takes an allocator as MODULE:FUNCTION, or a program with --exec",
        ),
        (["shares"], "an allocator is named as MODULE:FUNCTION, got 'shares'"),
        (["shares:"], "an allocator is named as MODULE:FUNCTION, got 'shares:'"),
        (["none:fill"], "there is no module 'none'"),
        (["shares.none:fill"], "there is no module 'shares.none'"),
        (["none.py:fill"], "there is no file 'none.py'"),
        (["shares:none"], "shares has no 'none'"),
        (["shares.py:Shares.none.more"], "shares.py has no 'Shares.none'"),
        (["shares:number"], "shares:number must be a function or a factory of one, got int"),
        (["shares:Broken"], "shares:Broken() raised RuntimeError: no licence"),
        (["shares:makes_nothing"], "shares:makes_nothing() must return a function, got NoneType"),
        (
            ["fails:fill"],
            "importing fails raised ModuleNotFoundError: No module named 'no_such_thing'",
        ),
        (
            ["fails.py:fill"],
            "importing fails.py raised ModuleNotFoundError: No module named 'no_such_thing'",
        ),
        (["leaves.py:fill"], "importing leaves.py raised SystemExit: 0"),
        (["leaves:fill"], "importing leaves raised SystemExit: 0"),
        (
            ["shares:fill", "--features", "offset"],
            "features must be some of offsets, buffer, reserved, parent, weight, priority, rank, "
            "active, step, got offset",
        ),
        (["shares:fill", "--tolerance", "7"], "tolerance must be within 0..1 kW, got 7.0"),
        (
            ["shares:fill", "--expect", "never under=x"],
            "an expected failure must name a law, got 'never under'; did you mean 'never over'?",
        ),
        (
            ["shares:fill", "--expect", "xyz=x"],
            "an expected failure must name a law, got 'xyz'",
        ),
        (
            ["shares:fill", "--expect", "never over"],
            'an expected failure must have a reason, as in "never over=REASON"',
        ),
        (
            ["shares:fill", "--report", "none/page.html"],
            "none/page.html: the file cannot be written: No such file or directory",
        ),
        (["--exec", "no-such-program"], "there is no program 'no-such-program' that can be run"),
    ],
)
def test_what_is_no_good_is_refused_in_one_sentence(arguments, message, verify):
    status, out, err = verify(*arguments)

    assert (status, out) == (2, "")
    assert err.removeprefix("imported\n") == f"wattfill: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-examples", "0"], "--max-examples: must be 1 at least, got 0"),
        (["--time-limit", "0"], "--time-limit: must be above 0 and finite, got 0"),
        (["--time-limit", "nan"], "--time-limit: must be above 0 and finite, got nan"),
        (["--exact", "--tolerance", "1"], "--tolerance: not allowed with argument --exact"),
    ],
)
def test_a_number_that_is_none_is_refused_with_the_usage(arguments, message, capsys):
    with pytest.raises(SystemExit) as left:
        main(["verify", "shares:fill", *arguments])

    assert left.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: argument {message}\n")


# A program


def test_a_program_is_held_to_the_laws(folder):
    (folder / "program.py").write_text(
        "import json, sys\n"
        "from wattfill.testing import solve\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    id = request.pop('id')\n"
        "    print(json.dumps({'id': id, 'power': solve(**request).power}), flush=True)\n"
    )
    command = f"{shlex.quote(sys.executable)} program.py"

    done = run("--exec", command, "--max-examples", "10", "--seed", "1", "--json")

    document = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert document["allocator"] == command
    assert shlex.split(document["repeat"])[2:4] == ["--exec", command]
    assert "does not apply" not in {
        law["status"]
        for law in document["laws"]
        if law["law"] != "the answer is that of the reference"
    }


def test_a_program_without_an_answer_breaks_the_law_of_answers(verify):
    program = f"{sys.executable} -S -c 'import sys; sys.exit(sys.argv[1])' 'not today'"

    status, out, _ = verify("--exec", program, "--features", "", "--max-examples", "2")

    assert status == 1
    assert (
        "an answer for everyone: it ended with exit status 1; the end of its standard error: "
        "not today\n"
    ) in out


# Files instead


def test_vectors_are_written_and_checked(verify, folder):
    written = verify("--vectors", "cases.json", "--max-examples", "70", "--seed", "3")

    assert written == (0, "cases.json: 70 cases, seed 3\n", "")
    assert json.loads((folder / "cases.json").read_text())["seed"] == 3
    told = "all 70 cases have the answers that are due\n"
    assert verify("--check-vectors", "cases.json") == (0, told, "")
    assert verify("--check-vectors", "cases.json", "shares:fill")[:2] == (0, told)


def test_vectors_are_those_of_the_documentation_where_nothing_else_is_said(verify, folder):
    verify("--vectors", "cases.json")

    stored = Path(__file__).parent.parent / "docs" / "vectors.json"
    assert (folder / "cases.json").read_bytes() == stored.read_bytes()


def test_cases_that_are_answered_otherwise_exit_with_1(verify):
    verify("--vectors", "cases.json", "--max-examples", "70")

    status, out, _ = verify("--check-vectors", "cases.json", "shares:least")
    code, document, _ = verify("--check-vectors", "cases.json", "shares:least", "--json")

    assert (status, code) == (1, 1)
    assert " more have arguments that are not taken\ncase " in out
    assert json.loads(document)["differences"][0]["what"] == "power"


def test_a_program_is_asked_the_cases_of_its_features(verify, folder):
    (folder / "program.py").write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    print(json.dumps({'id': request['id'], 'error': ' '.join(request)}), flush=True)\n"
    )
    verify("--vectors", "cases.json", "--max-examples", "70")

    status, out, _ = verify(
        "--check-vectors", "cases.json", "--exec", f"{sys.executable} program.py",
        "--features", "buffer",
    )  # fmt: skip

    assert status == 1
    answered = re.findall(r"it answered the error '(.*?)'", out)
    assert answered
    assert {*" ".join(answered).split()} <= {"id", "minimum", "maximum", "capacity", "buffer"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cases.json cannot be read: No such file or directory"),
        ("{}", "cases.json must be an object that has a format"),
    ],
)
def test_what_is_no_file_of_vectors_is_refused(content, message, verify, folder):
    if content is not None:
        (folder / "cases.json").write_text(content)

    assert verify("--check-vectors", "cases.json") == (2, "", f"wattfill: {message}\n")


def test_vectors_that_cannot_be_written_are_refused(verify):
    assert verify("--vectors", "none/cases.json") == (
        2,
        "",
        "wattfill: none/cases.json: the file cannot be written: No such file or directory\n",
    )


HISTORIES = Path(__file__).parent.parent / "docs" / "examples"


def test_a_history_is_judged(verify):
    unsafe, out, _ = verify("--history", str(HISTORIES / "history-lost-decrease.jsonl"))
    safe, document, _ = verify("--history", str(HISTORIES / "history-leases.jsonl"), "--json")

    assert (unsafe, safe) == (1, 0)
    assert out.startswith("Unsafe: 1 violation in ")
    assert json.loads(document)["safe"] is True


def test_a_history_is_read_from_standard_input_and_judged_with_a_skew():
    # With so late a clock a lease may still be in force when its power is given to others.
    lines = (HISTORIES / "history-leases.jsonl").read_bytes()

    done = subprocess.run(
        [sys.executable, "-m", "wattfill", "verify", "--history", "-", "--skew", "1000"],
        input=lines,
        capture_output=True,
        timeout=60,
    )

    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith(b"Unsafe: ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "log.jsonl: the file cannot be read: No such file or directory"),
        ("[]\n", "log.jsonl: line 1 must be an object, got []"),
    ],
)
def test_what_is_no_history_is_refused(content, message, verify, folder):
    if content is not None:
        (folder / "log.jsonl").write_text(content)

    assert verify("--history", "log.jsonl") == (2, "", f"wattfill: {message}\n")


# How it behaves


def test_what_an_allocator_prints_is_no_part_of_the_report():
    done = run("shares:least", *FEW, "--json")

    assert json.loads(done.stdout)["examples"] == 20
    assert {*done.stderr.split()} == {"imported", "asked"}


def test_an_allocator_that_exits_ends_nothing(verify):
    status, out, _ = verify("shares:leaves", "--max-examples", "5")

    assert status == 1
    assert "an answer for everyone: it raised SystemExit: \n" in out


def test_what_would_move_the_cursor_is_escaped(verify, folder):
    (folder / "shares.py").write_text(
        "def share(minimum, maximum, capacity):\n    raise ValueError('\\x1b[2J\\ud800')\n"
    )

    _, out, _ = verify("shares.py:share", "--max-examples", "5")

    assert "it raised ValueError: \\x1b[2J\\ud800\n" in out


def test_the_kit_loads_neither_the_kernel_nor_numpy(folder):
    code = (
        "import sys; from wattfill.cli import main\n"
        f"main({['verify', *ALIKE, '--report', 'page.html']!r})\n"
        "print({'numpy', 'wattfill._kernel', 'wattfill.allocation'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)

    assert done.stdout.endswith("set()\n"), done.stderr


def test_help_loads_neither_hypothesis_nor_the_laws():
    code = (
        "import sys; from wattfill.cli import main\n"
        "try: main(['verify', '--help'])\n"
        "except SystemExit: print({'hypothesis', 'wattfill.testing', 'numpy'} & set(sys.modules))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout.endswith("set()\n")


def test_help_names_the_default_number_of_sites(capsys):
    with pytest.raises(SystemExit):
        main(["verify", "--help"])

    assert f"how many sites to make ({DEFAULT_EXAMPLES})" in capsys.readouterr().out


def on_a_terminal(*arguments):
    """Return what a terminal is shown of standard error, and of standard output."""
    shown = []
    pairs = [pty.openpty(), pty.openpty()]
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "80"}
    environment.pop("NO_COLOR", None)
    process = subprocess.Popen(
        [sys.executable, "-m", "wattfill", "verify", *arguments],
        stdout=pairs[0][1],
        stderr=pairs[1][1],
        env=environment,
    )
    for _, theirs in pairs:
        os.close(theirs)
    for ours, _ in reversed(pairs):
        text = b""
        with open(ours, "rb") as terminal, suppress(OSError):
            while part := os.read(terminal.fileno(), 4096):
                text += part
        shown.append(text.decode())
    process.wait(100)
    return shown


def test_a_terminal_has_a_bar_and_colours():
    arguments = ["shares.py:least", "--no-pausing", *FEW]

    bar, table = on_a_terminal(*arguments)

    assert "20/20" in bar
    assert "the smallest counterexamples" in bar
    assert "\x1b[1;31mbroken\x1b[0m" in table
    assert "\x1b[32mheld\x1b[0m" in table
    plain = re.sub(r"\x1b\[[\d;]*m", "", table).replace("\r\n", "\n")
    assert plain == run(*arguments).stdout


def test_a_pipe_has_neither():
    done = run(*ALIKE, env=os.environ | {"FORCE_COLOR": "1"})

    assert done.stderr == "imported\n"
    assert "\x1b" not in done.stdout


def test_a_closed_pipe_is_quiet():
    ours, theirs = os.pipe()
    os.close(ours)

    with open(theirs, "wb") as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "wattfill", "verify", *ALIKE],
            stdout=pipe,
            stderr=subprocess.PIPE,
            timeout=100,
        )

    assert (done.returncode, done.stderr) == (141, b"imported\n")


# What it takes


def test_without_hypothesis_it_says_which_extra_has_it(monkeypatch, verify):
    monkeypatch.setitem(sys.modules, "hypothesis", None)

    status, out, err = verify(*ALIKE)

    assert (status, out) == (2, "")
    assert err == (
        "wattfill: wattfill verify takes hypothesis, which is not installed: "
        "pip install 'wattfill[testing]'\n"
    )


def test_on_a_terminal_without_rich_it_says_which_extra_has_it(monkeypatch, verify):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    status, out, err = verify(*ALIKE)

    assert (status, out) == (2, "")
    assert err.removeprefix("imported\n") == (
        "wattfill: a terminal takes rich, which is not installed: pip install 'wattfill[cli]', "
        "or ask for --json\n"
    )


def test_a_pipe_does_without_rich(monkeypatch, verify):
    monkeypatch.setitem(sys.modules, "rich.console", None)

    assert verify(*ALIKE)[0] == 0


def test_a_page_is_written_beside_the_table(verify, folder):
    status, out, _ = verify("shares.py:least", "--no-pausing", *FEW, "--report", "page.html")

    page = (folder / "page.html").read_text(encoding="utf-8")
    assert status == 1
    assert statuses(out)["nothing is wasted"] == "broken"
    assert "shares.py:least" in page
    assert "--report" not in out


def test_a_page_that_is_refused_is_refused_before_the_run(verify, folder):
    (folder / "page.html").mkdir()

    status, out, err = verify(*ALIKE, "--report", "page.html")

    assert (status, out) == (2, "")
    assert err == "wattfill: page.html: the file cannot be written: Is a directory\n"


def test_the_installed_command_finds_modules_in_the_current_folder():
    command = Path(sys.executable).with_name("wattfill")
    if not command.exists():
        pytest.skip("the command is not installed beside this interpreter")

    done = subprocess.run(
        [command, "verify", "shares:alike", "--no-pausing", *FEW],
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr


PAGE = Path(__file__).parents[1] / "docs/verify.md"


def share_of(file: str) -> Callable[..., list[float]]:
    """Return the allocator of an example."""
    return runpy.run_path(str(PAGE.parent / "examples" / file))["share"]


def test_the_page_quotes_its_examples():
    page = PAGE.read_text(encoding="utf-8")

    for file in ("share.py", "share_fixed.py"):
        _, _, code = (PAGE.parent / "examples" / file).read_text("utf-8").partition('"""\n')
        assert code.strip() in page


def test_the_sites_on_the_page_break_the_laws_and_the_fix_keeps_them():
    page = PAGE.read_text(encoding="utf-8")
    shown = re.findall(r"(?ms)^([a-z ]+): connector.*?^(\{.*?\})$", page)

    assert len(shown) == 2
    for name, answer in shown:
        site = json.loads(answer)
        assert share_of("share.py")(**site["batch"]) == site["power"]
        with pytest.raises(LawBrokenError):
            LAWS[name](site["batch"], site["power"])
        LAWS[name](site["batch"], share_of("share_fixed.py")(**site["batch"]))


def test_the_fixed_example_keeps_all_laws():
    report = check_allocator(share_of("share_fixed.py"), seed=1, max_examples=200)

    assert report.ok
