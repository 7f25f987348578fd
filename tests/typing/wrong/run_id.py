"""A run id is text, and what is done with a finished run is one of three words."""

import taskflowx
from taskflowx import LinearFlow, runs

flow = LinearFlow("flow")
taskflowx.run(flow, backend="runs.db", run_id=17)  # wrong
taskflowx.run(flow, backend="runs.db", run_id="17", if_finished="repeat")  # wrong
runs.open("runs.db").list(limit="many")  # wrong
