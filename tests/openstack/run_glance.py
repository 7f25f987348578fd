"""Glance: its imports of images, by each method and with each plug-in, and its tasks run by its own executor."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from unittest import mock

import glance.async_
from glance.async_ import taskflow_executor
from glance.async_.flows import api_image_import, base_import, convert, introspect, location_import, ovf_process
from glance.async_.flows.plugins import image_conversion, image_decompression, inject_image_metadata, no_op
from glance.common import config
from oslo_config import cfg
from standins import explore
from taskflow.patterns import linear_flow
from transcript import Transcript

OUT = Transcript()
#: ways to import an image, and the stores that it is put into
METHODS = {
    "glance-direct": ("cheap",),
    "web-download": ("cheap", "fast"),
    "copy-image": ("cheap", "fast"),
    "glance-download": ("cheap", "fast", "far"),
}
PLUGINS = ["no_op", "image_decompression", "image_conversion", "inject_image_metadata"]


def given(method: str = "web-download", stores: tuple[str, ...] = ("cheap", "fast")) -> dict[str, object]:
    return {
        "task_id": "task",
        "task_type": "api_image_import",
        "task_repo": mock.MagicMock(),
        "image_repo": mock.MagicMock(),
        "admin_repo": mock.MagicMock(),
        "image_factory": mock.MagicMock(),
        "image_id": "image",
        "import_req": {
            "method": {
                "name": method,
                "uri": None if method in {"glance-direct", "copy-image"} else "http://example.org/image",
                "glance_image_id": "far",
                "glance_region": "there",
                "glance_service_interface": "public",
            }
        },
        "uri": None,
        "backend": list(stores),
        "context": mock.MagicMock(),
        "all_stores_must_succeed": False,
        "action_wrapper": mock.MagicMock(),
        "val_data": {},
        "loc_url": "http://example.org/location",
        "metadata": {},
    }


def line_of(made: object) -> object:
    """Return a flow of what a plug-in gives: some give a task."""
    return made if hasattr(made, "iter_nodes") else linear_flow.Flow("plug-in").add(made)


def flows() -> None:
    for method, stores in METHODS.items():
        explore(OUT, f"import by {method}", lambda m=method, s=stores: api_image_import.get_flow(**given(m, s)))
    for module in (
        base_import,
        convert,
        introspect,
        ovf_process,
        location_import,
        image_conversion,
        image_decompression,
        inject_image_metadata,
        no_op,
    ):
        explore(OUT, module.__name__, lambda module=module: line_of(module.get_flow(**given())))


class Tasks:
    """The repository of tasks, for one task."""

    def __init__(self, task: object) -> None:
        self._task = task

    def get(self, task_id: str) -> object:
        return self._task

    def save(self, task: object) -> None:
        OUT.say("   saved", task.mock_calls)


def executor(fails: bool) -> None:
    """Let Glance's executor run a task: it loads the flow by its name, listens, and marks the task."""
    task = mock.MagicMock(
        type="import", task_id="task", task_input={"import_from": "file:///x", "image_properties": {}}
    )
    made = taskflow_executor.TaskExecutor(mock.MagicMock(), Tasks(task), mock.MagicMock(), mock.MagicMock())
    flow = linear_flow.Flow("import").add(no_op.get_flow(**given()))
    OUT.say("executor", "fails" if fails else "succeeds")
    problem = (
        mock.patch.object(no_op._Noop, "execute", side_effect=LookupError("gone"))
        if fails
        else contextlib.nullcontext()
    )
    with OUT.every_run(), problem, mock.patch.object(made, "_get_flow", return_value=flow):
        try:
            made._run("task", "import")
        except LookupError as error:
            OUT.say("   raised", error)
    OUT.say("   asked for", [call[0] for call in task.mock_calls])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    glance.async_.set_threadpool_model("native")
    config.parse_args(args=[])
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as patches:
        cfg.CONF.set_override("node_staging_uri", f"file://{folder}/")
        cfg.CONF.set_override("enabled_import_methods", [*METHODS])
        cfg.CONF.set_override("image_import_plugins", PLUGINS, "image_import_opts")
        cfg.CONF.set_override("work_dir", folder, "task")
        for seam in (
            "time.sleep",
            "glance_store.get_store_from_store_identifier",
            "glance.quota.keystone.enforce_image_size_total",
            "glance.quota.keystone.enforce_image_staging_total",
            "glance.quota.keystone.enforce_image_count_uploading",
            # The image is a stand-in, so it cannot say which task holds it.
            "glance.async_.flows.api_image_import.ImportActionWrapper._assert_task_lock",
        ):
            patches.enter_context(mock.patch(seam))
        flows()
        executor(fails=False)
        executor(fails=True)
