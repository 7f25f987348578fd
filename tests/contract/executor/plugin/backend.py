"""Builds this package without anything that would have to be downloaded (PEP 517)."""

import pathlib
import zipfile

INFO = "taskflowx_turnstile-1.0.dist-info"
FILES = {
    f"{INFO}/METADATA": "Metadata-Version: 2.1\nName: taskflowx-turnstile\nVersion: 1.0\n",
    f"{INFO}/WHEEL": "Wheel-Version: 1.0\nGenerator: backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    f"{INFO}/entry_points.txt": "[taskflowx.executors]\nturnstile = taskflowx_turnstile:make\n",
    f"{INFO}/RECORD": "",
}


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Write the wheel, and return its name."""
    name = "taskflowx_turnstile-1.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.write(pathlib.Path(__file__).with_name("taskflowx_turnstile.py"), "taskflowx_turnstile.py")
        for path, text in FILES.items():
            wheel.writestr(path, text)
    return name
