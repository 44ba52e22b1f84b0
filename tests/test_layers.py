"""Imports run one way: each module knows only those before it on this list."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import posecli

ROOT = Path(posecli.__file__).parent

# In the order a reader opens them; packages count as one. docs/architecture.md tells what each is for.
ORDER = """
errors files storage on_ray types skeletons
video
geometry masks assignment sampling profiling turns stages workers forks batches
predictions drawing trails panels render render_files
formats frames exports convert
metrics
reports
checks stats
zoo
models codecs grouping losses tracking smoothing
checkpoint official readout looks stills pose_scores on_device running inference batching calibration onnx_export
person_boxes following infer_options as_written recurrence side_by_side pipeline
spans merging infer_jobs infer_resume infer_overlays infer_files segments cluster
scenes
augment augment_pictures settings data distributed tasks validation learner run_log catalogue surgery
training_data training rescoring
cross
bench
cli __main__
""".split()

# What must start quickly, or run where nobody wants a gigabyte of torch in memory.
WITHOUT_TORCH = [
    "video",
    "predictions",
    "render",
    "formats",
    "convert",
    "exports",
    "metrics",
    "reports",
    "scenes",
    "cli.app",
]


def unit(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def imported(path: Path) -> set[str]:
    """Modules of posecli that a file imports, also inside functions and for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "posecli":
            found |= {alias.name for alias in node.names if alias.name in ORDER}
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("posecli."):
            found.add(unit(node.module))
        elif isinstance(node, ast.Import):
            found |= {unit(alias.name) for alias in node.names if alias.name.startswith("posecli.")}
    return found


def test_every_module_is_on_the_list() -> None:
    present = {p.stem for p in ROOT.glob("*.py")} | {p.parent.name for p in ROOT.glob("*/__init__.py")}
    assert present - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_backwards(name: str) -> None:
    files = sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [ROOT / f"{name}.py"]
    earlier = set(ORDER[: ORDER.index(name) + 1])
    for path in files:
        assert imported(path) <= earlier, f"{path.relative_to(ROOT)} imports {sorted(imported(path) - earlier)}"


def needed(path: Path) -> set[str]:
    """Full names of the modules of posecli that a file imports, but for type checking."""
    found = set()

    def visit(node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "posecli":
                # A name may be a module of a package, or something in a module.
                found.update(f"{child.module}.{alias.name}" for alias in child.names)
                found.add(str(child.module))
            elif isinstance(child, ast.Import):
                found.update(alias.name for alias in child.names)
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def test_no_module_needs_itself() -> None:
    """Within packages, too, imports run one way: what needs nothing but what is taken off already is taken off."""
    modules = {
        ".".join(path.relative_to(ROOT.parent).with_suffix("").parts): path
        for path in ROOT.rglob("*.py")
        if path.name != "__init__.py"
    }
    left = {name: needed(path) & set(modules) for name, path in modules.items()}
    while free := [name for name, needs in left.items() if not needs & set(left)]:
        for name in free:
            del left[name]
    assert not left, f"in a circle, or beyond one: {sorted(left)}"


def test_modules_that_do_without_torch() -> None:
    code = f"import sys\nfor m in {WITHOUT_TORCH!r}:\n    __import__('posecli.' + m)\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_help_imports_nothing_heavy() -> None:
    """`posecli --help` answers at once: what takes time is not even imported."""
    heavy = ("torch", "numpy", "cv2", "av", "scipy", "pycocotools")
    code = (
        "import sys\nfrom posecli.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"print([m for m in {heavy!r} if m in sys.modules], file=sys.stderr)"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert run.stderr.strip() == "[]"
    assert all(verb in run.stdout for verb in ("convert", "train", "infer", "evaluate", "render", "scenes"))


def test_infer_begins_without_what_it_needs_later() -> None:
    """SciPy's optimisers take a third of a second: they are imported beside the network, if people are followed."""
    code = "import sys\nimport posecli.infer_files\nassert 'scipy.optimize' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
