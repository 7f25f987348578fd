"""Runs a chain on OpenStack TaskFlow, and prints how many seconds and bytes that takes for each of its atoms.

The environment that has TaskFlow runs it. The time is that of `peer_taskflow`; the bytes are those by which the process
has grown at its peak.
"""

import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import held
import peer_taskflow

if __name__ == "__main__":
    atoms = int(sys.argv[1])
    peer_taskflow.build_and_run(10)  # so that what is imported and worked out once is not counted
    before = held.now()
    seconds = peer_taskflow.build_and_run(atoms)
    print(json.dumps([seconds / atoms, (held.at_peak() - before) / atoms]))
