"""The rules of the house that a reader would otherwise have to check by eye."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import specufex_dask

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "specufex_dask"
MODULES = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(PACKAGE.rglob("*.py"))}
MODULES = {name.removesuffix(".__init__"): path for name, path in MODULES.items()}
SOURCES = [*MODULES.values(), *sorted((ROOT / "tests").rglob("*.py"))]
STAGES = {
    f"specufex_dask.{stage}"
    for stage in (
        "catalog",
        "waveforms",
        "spectrograms",
        "nmf",
        "hmm",
        "fingerprints",
        "clusters",
        "merge",
        "correlation",
        "repeaters",
        "relocation",
    )
}
TOP = {f"specufex_dask.{name}" for name in ("cli", "__main__", "config", "study", "sections", "demo")}
HEAVY = {"obspy", "sklearn", "dask_ml", "matplotlib", "s3fs", "distributed", "rich"}
LONGEST_FILE, LONGEST_BODY = 300, 40


def _imports(path: Path) -> set[str]:
    """Every module that `path` imports when it runs, at its top or in a function."""
    return {name for node in ast.parse(path.read_text()).body for name in _imported(node)}


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return set()
    if isinstance(node, ast.Import):
        return {alias.name for alias in node.names}
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide the direction"
        names = {f"{node.module}.{alias.name}" for alias in node.names}
        return {name if name in MODULES else str(node.module) for name in names}
    return {name for child in ast.iter_child_nodes(node) for name in _imported(child)}


IMPORTS = {name: _imports(path) for name, path in MODULES.items()}


def _reached(module: str) -> set[str]:
    """The modules of the package that `module` imports, directly or not; the package's face apart."""
    reached: set[str] = set()
    waiting = {module}
    while waiting:
        now = waiting.pop()
        reached.add(now)
        waiting |= {name for name in IMPORTS[now] & MODULES.keys() if name != "specufex_dask"} - reached
    return reached - {module}


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("specufex_dask.kernels")])
def test_a_kernel_knows_neither_xarray_nor_dask_nor_the_package(module: str) -> None:
    roots = {name.partition(".")[0] for name in IMPORTS[module]} - set(sys.stdlib_module_names)
    assert roots <= {"numpy", "scipy", "numba", "specufex_dask"}
    assert all(name.startswith("specufex_dask.kernels") for name in _reached(module))


@pytest.mark.parametrize("module", sorted(STAGES & MODULES.keys()))
def test_no_stage_reaches_another_stage(module: str) -> None:
    assert _reached(module) & STAGES == set()


@pytest.mark.parametrize("module", sorted(MODULES.keys() - TOP - {"specufex_dask"}))
def test_nothing_reaches_up(module: str) -> None:
    assert _reached(module) & TOP == set()
    assert "specufex_dask" not in IMPORTS[module], "the package's face is for its users"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_the_package_never_imports_what_surrounds_it(module: str) -> None:
    assert not {name.partition(".")[0] for name in IMPORTS[module]} & {"deploy", "notebooks", "tests"}


def test_the_loop_of_inference_knows_no_model() -> None:
    assert not _reached("specufex_dask.svi") & STAGES


def test_importing_loads_no_heavy_library() -> None:
    """Neither the package nor any module of it: a heavy library is for the function that needs it."""
    names = sorted(MODULES.keys() - {"specufex_dask.__main__"})
    program = f"import importlib, sys\nfor name in {names}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    length = len(text.splitlines())
    assert length <= LONGEST_FILE
    functions = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert {f.name: _body(f) for f in functions if _body(f) > LONGEST_BODY} == {}


def _body(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, docstring apart."""
    start = 1 if ast.get_docstring(function) else 0
    statements = function.body[start:]
    return (statements[-1].end_lineno or 0) - statements[0].lineno + 1 if statements else 0


@pytest.mark.parametrize("name", specufex_dask.__all__)
def test_a_public_name_explains_itself_with_an_example(name: str) -> None:
    documented = inspect.getdoc(getattr(specufex_dask, name)) or ""
    claim = documented.partition("\n")[0]
    assert claim.endswith(".")
    assert ">>> " in documented
    assert not any(word in claim for word in ("This function", "Function to"))


def _git_files(*options: str) -> list[str]:
    command = ["git", "ls-files", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_git_ignores_nothing_that_the_package_needs() -> None:
    """An ignored file is missing in a clone, and in the wheel."""
    ignored = _git_files("--others", "--ignored", "--exclude-standard", "specufex_dask")
    assert [name for name in ignored if "__pycache__" not in name] == []


def test_no_file_names_a_machine_or_a_registry() -> None:
    files = _git_files("--cached", "--others", "--exclude-standard")
    paths = r"(?<![\w.}])/(?:work|root|tmp|home|Users)/"
    hosts = "|".join(
        ["py" + r"pi\.org", r"python" + r"hosted\.org", r"npm" + r"js\.(?:com|org)", "ana" + r"conda\.(?:com|org)"]
    )
    forbidden = re.compile(f"{paths}|{hosts}")
    existing = [path for name in files if (path := ROOT / name).is_file()]
    found = {str(path.relative_to(ROOT)): forbidden.findall(_text(path)) for path in existing}
    assert len(found) > len(MODULES)
    assert {name: words for name, words in found.items() if words} == {}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="ignore")
