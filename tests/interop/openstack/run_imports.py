"""Every module of a service that speaks of taskflow, imported: `python run_imports.py SERVICE`."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import warnings
from pathlib import Path

from transcript import Transcript

OUT = Transcript()


def main(service: str) -> None:
    spec = importlib.util.find_spec(service)
    folder = Path(spec.origin).parent
    if service == "cinder":
        importlib.import_module("cinder.objects").register_all()  # its modules refer to objects by their names
    for file in sorted(folder.rglob("*.py")):
        module = ".".join((service, *file.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
        if "taskflow" not in file.read_text() or ".tests.functional" in module:
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - some need what is not here
            OUT.say(module, type(error).__name__, error)
        else:
            OUT.say(module, "imported")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    main(sys.argv[1])
