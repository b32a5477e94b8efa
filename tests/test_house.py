"""The habits of the house, checked: small files, docstrings, tests that mirror the code, documented errors and settings."""

import ast
import importlib
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from django.core.management import get_commands

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("marketplace", "billing", "inference")
LONGEST_FILE = 400
# Machine-made, or somebody else's: not read by people, so not held to a length.
NOT_WRITTEN = ("requirements/", "migrations/", "vendor/", "LICENSE", ".po", "vocabulary.txt", ".svg", ".json")
# Database URLs and other settings that come from elsewhere are documented there.
WRITTEN_SUFFIXES = (".py", ".html", ".css", ".js", ".md", ".toml", ".lua", "")


def repository_files() -> list[Path]:
    """Return the files git knows or would add, in order."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in sorted(set(listed.stdout.splitlines())) if (path := ROOT / name).is_file()]


def modules() -> list[Path]:
    """Return every Python file of the three packages but migrations."""
    return [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py")) if "migrations" not in path.parts]


def test_no_file_is_longer_than_400_lines() -> None:
    long = {}
    for path in repository_files():
        name = str(path.relative_to(ROOT))
        if path.suffix in WRITTEN_SUFFIXES and not any(part in name for part in NOT_WRITTEN):
            lines = len(path.read_text(errors="replace").splitlines())
            if lines > LONGEST_FILE:
                long[name] = lines

    assert not long


def test_every_module_class_and_public_function_has_a_docstring() -> None:
    bare = []
    for path in modules():
        tree = ast.parse(path.read_text())
        name = str(path.relative_to(ROOT))
        if tree.body and not ast.get_docstring(tree):
            bare.append(name)
        for node in tree.body:
            is_public = isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_")
            if is_public and not ast.get_docstring(node):
                bare.append(f"{name}: {node.name}")

    assert not bare


def test_every_test_folder_mirrors_a_package() -> None:
    strays = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        parts = path.relative_to(ROOT / "tests").parts
        if parts[0] in PACKAGES and not (ROOT.joinpath(*parts[:-1])).is_dir():
            strays.append(str(path.relative_to(ROOT)))

    assert not strays


def error_codes() -> set[str]:
    """Return the codes of every error class of the three packages."""
    codes = set()
    for package in PACKAGES:
        module = importlib.import_module(f"{package}.errors")
        for name, value in vars(module).items():
            is_base = name == f"{package.title()}Error"
            if isinstance(value, type) and issubclass(value, Exception) and not is_base:
                codes.add(getattr(value, "code", f"{name} has no code"))
    return codes


def test_every_error_has_a_problem() -> None:
    from marketplace.problems import PROBLEMS

    assert error_codes() - set(PROBLEMS) == set()


@pytest.mark.django_db
def test_every_problem_has_a_documentation_page(client: "object") -> None:
    from django.test import Client

    from marketplace.problems import PROBLEMS

    assert isinstance(client, Client)
    for code, problem in PROBLEMS.items():
        page = client.get(f"/docs/errors/{code}")
        assert page.status_code == 200, code
        assert code in page.content.decode(), problem


def test_dev_requirements_hold_all_of_run_in_the_same_versions() -> None:
    # `make run` and `make test` share one environment: they must not undo each other's work.
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^([a-z0-9-]+==[^ ;\\]+)", (ROOT / "requirements" / f"{name}.txt").read_text(), re.MULTILINE))

    assert pins("run") <= pins("dev")


def test_every_dependency_says_what_it_is_for() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    project = tomllib.loads("\n".join(lines))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    silent = []
    for requirement in (requirement for group in groups for requirement in group):
        line = next(line for line in lines if f'"{requirement}"' in line)
        if "#" not in line and requirement not in TOOLS:
            silent.append(requirement)

    assert not silent


# What they do is in their names, and known to whoever tests Python.
TOOLS = {
    "django-stubs[compatible-mypy]~=6.1", "djangorestframework-stubs~=3.18", "hypothesis~=6.170", "import-linter~=2.16", "mypy~=2.4",
    "pytest~=9.0", "pytest-django~=4.14", "pytest-timeout~=2.4", "ruff~=0.17", "torch==2.13.0", "onnx~=1.23", "tqdm~=4.67",
}  # fmt: skip


def settings_read() -> set[str]:
    """Return the environment variables that settings.py reads."""
    return set(re.findall(r'env_\w+\(\s*"([A-Z_0-9]+)"', (ROOT / "marketplace" / "settings.py").read_text()))


def test_every_setting_is_documented_and_every_documented_one_exists() -> None:
    documented = set(re.findall(r"^\| `([A-Z_0-9]+)`", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))

    assert documented == settings_read()


def test_the_documentations_links_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        targets = [target for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()) if "://" not in target]
        broken += [f"{page.relative_to(ROOT)}: {target}" for target in targets if not (page.parent / target).exists()]

    assert not broken


def test_the_documentations_commands_exist_and_are_run_by_the_environments_python() -> None:
    commands = {path.stem for path in (ROOT / "marketplace" / "management" / "commands").glob("*.py")} | set(get_commands())
    wrong = []
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        for before, command in re.findall(r"(\S*\s?)manage\.py ([a-z_]+)", page.read_text()):
            # `python` alone has none of what `make run` installed.
            if command not in commands or before.strip("`") == "python ":
                wrong.append(f"{page.relative_to(ROOT)}: {before}manage.py {command}")

    assert not wrong
