"""Programs that try the core without Python: how much it does, and whether it is right.

    python tests/native count     instructions of each workload, held against instructions.toml
    python tests/native replay    answers of each workload and to the corpus of the fuzzer; CC may
                                  name a compiler for another processor, if qemu has that one
    python tests/native fuzz      a minute of libFuzzer, starting from the corpus
    python tests/native ports     what the inner loops are made of, and the cycles that this takes

It takes CMake, Ninja and a C compiler; valgrind to count, Clang with its runtime to fuzz, and
llvm-mca for ports.
"""

from __future__ import annotations

import argparse
import gzip
import io
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
TABLE = HERE / "instructions.toml"
CORPUS = HERE / "corpus.tar.gz"

# Valgrind knows no AVX-512.
LEVELS = ("baseline", "x86_64_v3")
# The same compiler makes the same instructions; what differs is the C library's copying of memory.
# Clang 14 came within 45 % of GCC 12, so another compiler tells only of work done twice.
TOLERANCE, TOLERANCE_ELSEWHERE = 0.03, 0.60

# Longer inputs only seed the same generator.
LONGEST_INPUT = 300


def run(*command: object, cwd: Path | None = None) -> str:
    """Return what a command prints; end with what it complains of if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, text=True, capture_output=True, cwd=cwd)
    if done.returncode:
        sys.exit(f"{' '.join(words[:3])} ...\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path, *options: str) -> Path:
    """Build the programs and return where they are."""
    names = ("-DSKBUILD_PROJECT_NAME=wattfill", "-DSKBUILD_PROJECT_VERSION=0")
    run(
        "cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, *names, "-DWATTFILL_PROGRAMS=ON", *options
    )
    run("cmake", "--build", folder)
    return folder / "tests" / "native"


def processor() -> str:
    """Return the processor that the compiler in CC builds for: its name says if it is another."""
    foreign = re.fullmatch(r"(\w+)-linux-\w+-(gcc|clang)", Path(os.environ.get("CC", "cc")).name)
    return foreign[1] if foreign else platform.machine()


def build_to_run(folder: Path) -> tuple[Path, list[str]]:
    """Build the programs as they are installed; return where they are, and what runs them."""
    target = processor()
    if target == platform.machine():
        return build(folder, "-DCMAKE_BUILD_TYPE=Release"), []
    return build(
        folder,
        "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_SYSTEM_PROCESSOR={target}",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
    ), [f"qemu-{target}"]


def workloads(programs: Path, emulator: list[str]) -> list[str]:
    return run(*emulator, programs / "workloads").splitlines()


def answer(programs: Path, emulator: list[str], name: str) -> tuple[int, str]:
    """Solve a workload on every instruction-set level; return its size and a hash of the answer."""
    size, answer = run(*emulator, programs / "workloads", name).split()
    return int(size), answer


def wrong_answers(programs: Path, emulator: list[str], due: dict[str, str]) -> Iterator[str]:
    for name in workloads(programs, emulator):
        found = answer(programs, emulator, name)[1]
        if found != due.get(name):
            yield f"{name}: the answer is {found}, {TABLE.name} has {due.get(name)}"


def count_one(programs: Path, folder: Path, name: str, level: str) -> int:
    """Return how many instructions it takes to solve a workload."""
    counts = folder / f"{name} {level}.callgrind"
    run(
        "valgrind", "--tool=callgrind", "--toggle-collect=counted",
        f"--callgrind-out-file={counts}", programs / "workloads", name, level,
    )  # fmt: skip
    totals = re.search(r"^totals: (\d+)$", counts.read_text(), re.MULTILINE)
    if totals is None or int(totals[1]) == 0:
        sys.exit(f"callgrind has counted nothing in {counts.name}")
    return int(totals[1])


def count(folder: Path, *, update: bool) -> None:
    """Hold instructions per connector against the table, or write it."""
    programs = build(folder, "-DCMAKE_BUILD_TYPE=Release")
    compiler = (programs / "compiler").read_text().partition(".")[0]
    names = workloads(programs, [])
    answers = {name: answer(programs, [], name) for name in names}
    kinds = [(name, level) for name in names for level in LEVELS]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = list(pool.map(lambda kind: count_one(programs, folder, *kind), kinds))
    found = {
        (name, level): round(instructions / answers[name][0], 2)
        for (name, level), instructions in zip(kinds, counts, strict=True)
    }
    if update:
        TABLE.write_text(as_table(compiler, found, {name: answers[name][1] for name in names}))
    table = tomllib.loads(TABLE.read_text())
    tolerance = TOLERANCE
    if compiler != table["compiler"]:
        tolerance = TOLERANCE_ELSEWHERE
        print(f"Counted with {compiler}, while {TABLE.name} is of {table['compiler']}.")
    wrong = list(wrong_answers(programs, [], table["answers"]))
    for (name, level), now in found.items():
        due = table["instructions"][level].get(name)
        print(f"{name:20}{level:12}{now:10.2f} instructions per connector, due {due}")
        if due is None:
            wrong.append(f"{name} on {level}: not in {TABLE.name}")
        elif now > due * (1.0 + tolerance):
            wrong.append(f"{name} on {level}: {now / due - 1.0:.0%} more instructions than due")
        elif now < due * (1.0 - tolerance) and compiler == table["compiler"]:
            # A table that lags would let the next change give the gain away.
            wrong.append(f"{name} on {level}: {1.0 - now / due:.0%} fewer than due; count --update")
    if wrong:
        sys.exit("\n".join(wrong))


def as_table(compiler: str, found: dict[tuple[str, str], float], answers: dict[str, str]) -> str:
    lines = [
        "# Instructions per connector, counted by callgrind, and a hash of each answer.",
        "# Written by: python tests/native count --update",
        f'compiler = "{compiler}"',
    ]
    for level in LEVELS:
        lines += ["", f"[instructions.{level}]"]
        lines += [f'"{name}" = {number}' for (name, at), number in found.items() if at == level]
    lines += ["", "[answers]", *(f'"{name}" = "{answer}"' for name, answer in answers.items())]
    return "\n".join(lines) + "\n"


def unpack_corpus(folder: Path) -> Path:
    inputs = folder / "corpus"
    inputs.mkdir()
    with tarfile.open(CORPUS) as corpus:
        corpus.extractall(inputs, filter="data")
    return inputs


def pack_corpus(inputs: Path) -> None:
    """Pack the inputs so that the same ones make the same file."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w") as corpus,
    ):
        for path in sorted(inputs.iterdir()):
            entry = tarfile.TarInfo(path.name)
            entry.size = path.stat().st_size
            with path.open("rb") as content:
                corpus.addfile(entry, content)
    CORPUS.write_bytes(packed.getvalue())


def replay(folder: Path, files: list[Path]) -> None:
    """Hold answers against the table, and those on the corpus, or some files, to the definition."""
    programs, emulator = build_to_run(folder)
    wrong = list(wrong_answers(programs, emulator, tomllib.loads(TABLE.read_text())["answers"]))
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(workloads(programs, emulator))} workloads: the answers of {TABLE.name}")
    inputs = files or sorted(unpack_corpus(folder).iterdir())
    print(run(*emulator, programs / "replay", *inputs), end="")


def fuzz(folder: Path, seconds: int, *, update: bool) -> None:
    """Let libFuzzer look for an input whose answer is not that of the definition."""
    os.environ["CC"] = os.environ.get("CC", "clang")
    checked = ("-DCMAKE_BUILD_TYPE=Debug", "-DWATTFILL_CHECKED=ON")
    program = build(folder / "build", *checked) / "fuzz"
    inputs = unpack_corpus(folder) if CORPUS.exists() else folder / "corpus"
    inputs.mkdir(exist_ok=True)
    common = [
        "-seed=1",
        f"-max_len={LONGEST_INPUT}",
        "-entropic_scale_per_exec_time=1",
        "-rss_limit_mb=4096",
        "-timeout=30",
        f"-artifact_prefix={folder}/",
    ]
    command = [program, *common, f"-max_total_time={seconds}", "-print_final_stats=1", inputs]
    done = subprocess.run(command, text=True, stderr=subprocess.PIPE)
    if done.returncode:
        # It ends with the input in base64 and, where an answer is wrong, the call from Python.
        sys.exit(done.stderr)
    print(*re.findall(r"^(?:Done .*|stat::number_of.*)$", done.stderr, re.MULTILINE), sep="\n")
    if update:
        smallest = folder / "smallest"
        smallest.mkdir()
        run(program, *common, "-set_cover_merge=1", smallest, inputs)
        pack_corpus(smallest)
        print(f"{CORPUS.name}: {len(list(smallest.iterdir()))} inputs")


# Which of the four units for vectors of a Zen 4 core do what, by timing each instruction alone and
# in turns with others, 256 bits wide: two add, round and compare doubles, two multiply and choose,
# and all four calculate with integers and combine bits. (LLVM 14 has no model of Zen 4, and in that
# of Zen 3 it is the multipliers that compare.)
ADDERS = re.compile(r"v(add|sub|max|min|cmp\w*|round)pd")
MULTIPLIERS = re.compile(r"v(mulpd|fn?m(add|sub)\d+pd|blendvpd|pcmpgtq)")
MOVES = re.compile(r"v(mov\w+|broadcast\w+)")


def ports(folder: Path) -> None:
    """Print what each inner loop is made of, and what four connectors take at least."""
    text = folder / "loops.s"
    run(
        os.environ.get("CC", "gcc"), "-S", "-O3", "-std=gnu11", "-march=x86-64-v3", "-DNDEBUG",
        "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fno-unroll-loops",
        "-I", ROOT / "src", "-o", text, HERE / "loops.c",
    )  # fmt: skip
    judged = run("llvm-mca", "-mcpu=znver3", text)
    modelled = dict(re.findall(r"Code Region - (.*)\n(?:.*\n)*?Block RThroughput: (\S+)", judged))
    print("four connectors         instructions  add  multiply  vectors  cycles  Zen 3's, llvm-mca")
    regions = re.findall(r"# LLVM-MCA-BEGIN (.*)\n((?:.*\n)*?).*# LLVM-MCA-END", text.read_text())
    for name, body in regions:
        names = [line.split()[0] for line in body.splitlines() if re.match(r"\s+[a-z]", line)]
        adders = sum(bool(ADDERS.fullmatch(x)) for x in names)
        multipliers = sum(bool(MULTIPLIERS.fullmatch(x)) for x in names)
        vectors = sum(x.startswith("v") and not MOVES.fullmatch(x) for x in names)
        cycles = max(adders / 2, multipliers / 2, vectors / 4)
        print(
            f"{name:24}{len(names):12}{adders:5}{multipliers:10}{vectors:9}{cycles:8.2f}"
            f"{modelled[name]:>9}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python tests/native",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("count", "replay", "fuzz", "ports"):
        commands.add_parser(name)
    commands.choices["count"].add_argument("--update", action="store_true", help="write the table")
    commands.choices["replay"].add_argument(
        "file", nargs="*", type=Path, help="inputs of the fuzzer"
    )
    commands.choices["fuzz"].add_argument("--update", action="store_true", help="keep what is new")
    commands.choices["fuzz"].add_argument("--seconds", type=int, default=60)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        match chosen.command:
            case "count":
                count(folder, update=chosen.update)
            case "replay":
                replay(folder, chosen.file)
            case "fuzz":
                fuzz(folder, chosen.seconds, update=chosen.update)
            case "ports":
                ports(folder)


if __name__ == "__main__":
    main()
