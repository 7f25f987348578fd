"""Build the wheel, and try what users install: it alone, with each extra, with all of them, each in an environment.

`make wheel` runs it. Each environment gets a program that uses what its extra is for, from a folder that is not this
one. The README is rendered as PyPI shows it. Needs PyPI; prints what it did, and ends with 1 when something is missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent

ALONE = """
import sys, tempfile
from taskflowx import as_task, linear, run
@as_task
def size(): return 3
@as_task
def double(size): return 2 * size
assert run(linear("f", size, double))["double"] == 6
assert run(linear("f", size, double), executor="threads")["double"] == 6
with tempfile.TemporaryDirectory() as folder:
    assert run(linear("f", size, double), backend=f"dir://{folder}")["double"] == 6
"""
STORE = """
from taskflowx import exceptions
from taskflowx.persistence import backends
def refuses(address):
    try:
        with backends.backend(address) as store:
            store.get_connection().validate()
    except exceptions.StorageFailure as error:
        assert "install" not in str(error).lower(), error
    else:
        raise AssertionError(f"{address} answered")
"""
#: extra -> a program that uses what it is for
PROGRAMS = {
    "": ALONE
    + """
from taskflowx.persistence import backends
for wants, address in (("sqlalchemy", "sqlite:///s.sqlite"), ("zookeeper", "zookeeper://127.0.0.1:1")):
    try:
        backends.fetch(address)
    except Exception as error:
        assert f"taskflowx[{wants}]" in str(error), error
    else:
        raise AssertionError(f"{address} does without {wants}")
""",
    "sqlalchemy": ALONE
    + """
import os
assert run(linear("f", size, double), backend="sqlite:///s.sqlite")["double"] == 6
assert os.path.getsize("s.sqlite")
""",
    "mysql": STORE + 'refuses("mysql+pymysql://user:no@127.0.0.1:1/none")',
    "postgresql": STORE + 'refuses("postgresql+psycopg://user:no@127.0.0.1:1/none")',
    "zookeeper": STORE + 'refuses("zookeeper://127.0.0.1:1?timeout=0.2")',
    "stores": "import kazoo, psycopg, pymysql, sqlalchemy, alembic",
    "cloudpickle": """
from taskflowx import as_task, linear, run
if __name__ == "__main__":
    three = 3
    assert run(linear("f", as_task(lambda: three, name="made", provides="made")), executor="processes")["made"] == 3
""",
    "dask": ALONE
    + """
if __name__ == "__main__":
    assert run(linear("f", size, double), executor="dask")["double"] == 6
""",
    "green": ALONE + '\nassert run(linear("f", size, double), executor="greenthreads")["double"] == 6\n',
    "cli": """
import pathlib, subprocess, sys
pathlib.Path("sums.py").write_text("import taskflowx\\n@taskflowx.as_task\\ndef double(n): return 2 * n\\n")
script = pathlib.Path(sys.executable).parent / "taskflowx"
done = subprocess.run([script, "run", "sums:double", "--store", "n=4"], capture_output=True, text=True, check=True)
assert done.stdout == "double: 8\\n", done
""",
    "otel": ALONE
    + """
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from taskflowx import load
from taskflowx.listeners.otel import OpenTelemetryListener
sent, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(sent))
engine = load(linear("f", size, double), history=True)
with OpenTelemetryListener(engine, provider):
    engine.run()
assert [span.name for span in sent.get_finished_spans()] == ["size", "double", "f"]
""",
    "perfetto": ALONE
    + """
import os
from taskflowx import load
engine = load(linear("f", size, double), history=True)
engine.run()
engine.report("run.html", trace=True)
assert os.path.getsize("run.perfetto-trace")
""",
    "progress": ALONE
    + """
from taskflowx import load
from taskflowx.listeners import progress
engine = load(linear("f", size, double))
with progress.ProgressBarListener(engine):
    engine.run()
""",
}


def main() -> int:
    """Try all of it; returns 1 when something is missing, and 0 otherwise."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    unknown = PROGRAMS.keys() - extras.keys() - {""}
    if unknown:
        print(f"pyproject.toml has no extras {sorted(unknown)}")
        return 1
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        run([sys.executable, "-m", "pip", *QUIETLY, "wheel", "--no-deps", "--wheel-dir", folder, str(ROOT)], made)
        (wheel,) = made.glob("*.whl")
        failed = [extra for extra, program in PROGRAMS.items() if not tried(wheel, extra, [program])]
        if not tried(wheel, "all", list(PROGRAMS.values())[1:]):
            failed.append("all")
        if not rendered(wheel):
            failed.append("README.md")
    print("all of it works" if not failed else f"FAILED: {failed}")
    return 1 if failed else 0


QUIETLY = ("--disable-pip-version-check", "--no-input", "--quiet")


def run(command: list[str], folder: Path) -> None:
    """Run a command in a folder, without the settings of this process."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(command, cwd=folder, env=kept, check=True, timeout=600)


def installed(folder: Path, *what: str) -> str:
    """Make an environment with packages in it; returns its Python."""
    venv.create(folder, with_pip=True, symlinks=True)
    python = str(folder / "bin" / "python")
    run([python, "-m", "pip", *QUIETLY, "install", *what], folder)
    return python


def tried(wheel: Path, extra: str, programs: list[str]) -> bool:
    """Install the wheel with an extra, and run programs; returns whether that went well."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder:
            python = installed(Path(folder) / "env", f"{wheel}[{extra}]" if extra else str(wheel))
            for program in programs:
                (Path(folder) / "program.py").write_text(program)
                run([python, "-W", "error::SyntaxWarning", "program.py"], Path(folder))
            run([python, "-m", "pip", "--disable-pip-version-check", "check"], Path(folder))
    except subprocess.SubprocessError as error:
        print(f"taskflowx[{extra}]: {error}")
        return False
    print(f"taskflowx[{extra}]: works, {time.monotonic() - began:.0f} s", flush=True)
    return True


def rendered(wheel: Path) -> bool:
    """Render the README as PyPI does; returns whether that went well."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            python = installed(Path(folder) / "env", "twine>=6")
            run([python, "-m", "twine", "check", "--strict", str(wheel)], Path(folder))
    except subprocess.SubprocessError as error:
        print(f"README.md: {error}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
