"""Check that the distributions in a folder hold what they should, and nothing else.

python .ci/check_contents.py FOLDER, where FOLDER holds one wheel and one sdist.
"""

import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CMakeLists.txt",
    "CONTRIBUTING.md",
    "LICENSE",
    "PKG-INFO",
    "README.md",
    "benchmarks",
    "docs",
    "pyproject.toml",
    "python",
    "src",
    "tests",
}
SHIPPED = {".py", ".pyi", ".pxd", ".typed", ".json", ".html", ".css", ".js", ".svg"}


def sdist_files(path: Path) -> set[PurePosixPath]:
    """Return the files of the sdist, without the folder that all of them are in."""
    with tarfile.open(path) as sdist:
        names = [PurePosixPath(member.name) for member in sdist if member.isfile()]
    return {PurePosixPath(*name.parts[1:]) for name in names}


def wheel_files(path: Path) -> set[PurePosixPath]:
    """Return the files of the wheel, without its metadata."""
    with zipfile.ZipFile(path) as wheel:
        names = [PurePosixPath(name) for name in wheel.namelist() if not name.endswith("/")]
    return {name for name in names if not name.parts[0].endswith(".dist-info")}


def due_in_wheel(sdist: set[PurePosixPath]) -> set[PurePosixPath]:
    """Return the package's own files, a compiled module per Cython source, and the header."""
    package = {name.relative_to("python") for name in sdist if name.is_relative_to("python")}
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    compiled = {
        PurePosixPath("wattfill", name.stem + suffix)
        for name in sdist
        if name.is_relative_to("src") and name.suffix == ".pyx"
    }
    return package | compiled | {PurePosixPath("wattfill/include/wattfill.h")}


def differences(what: str, got: set[str], due: set[str]) -> list[str]:
    """Return one sentence for each name that is missing or not wanted."""
    return [f"{what} lacks {name}" for name in sorted(due - got)] + [
        f"{what} should not hold {name}" for name in sorted(got - due)
    ]


def main(folder: Path) -> int:
    """Print what is wrong; return 1 if anything is."""
    (sdist_path,), (wheel_path,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    sdist, wheel = sdist_files(sdist_path), wheel_files(wheel_path)
    wrong = differences("the sdist", {name.parts[0] for name in sdist}, TOP_LEVEL)
    wrong += differences("the wheel", set(map(str, wheel)), set(map(str, due_in_wheel(sdist))))
    wrong += [
        f"the package should not hold {name}: it is none of {', '.join(sorted(SHIPPED))}"
        for name in sorted(sdist)
        if name.is_relative_to("python") and (name.suffix or name.name) not in SHIPPED
    ]
    for sentence in wrong:
        print(sentence)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
