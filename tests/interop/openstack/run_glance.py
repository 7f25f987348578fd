"""Glance: images are imported by each method and with each plug-in, by its own executor, into a database and stores."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import glance.async_
import glance.db
import glance_store
from glance import context, gateway, opts
from glance.common import config, exception, store_utils, wsgi_app
from glance.common.scripts import utils as scripts
from glance.db.sqlalchemy import api as database, models
from glance_store._drivers import filesystem
from oslo_concurrency import lockutils, processutils
from oslo_config import cfg
from oslo_db import options
from outside import Outside, explore_outside
from standins import explore
from transcript import Transcript, plain, text

if TYPE_CHECKING:
    from collections.abc import Iterator

OUT = Transcript()
CONF = cfg.CONF
IMAGE = "1f4a3b9e-0000-4000-8000-00000000cafe"
TENANT = "tenant"
STORES = ("cheap", "fast", "far")
DATA = b"what is in the image " * 100
URI = "http://93.184.216.34/image"  # an address, as it is looked up
QCOW2 = b"QFI\xfb" + (3).to_bytes(4) + bytes(504)


def configure(folder: Path) -> None:
    """Set up Glance with a database, three stores, and every method and plug-in."""
    opts.list_image_import_opts()  # imports the plug-ins, which add their options
    config.parse_args(args=[])
    glance.async_.set_threadpool_model("native")
    lockutils.set_defaults(str(folder))
    options.set_defaults(CONF, connection=f"sqlite:///{folder}/glance.sqlite")
    models.register_models(database.get_engine())
    CONF.set_override("enabled_backends", dict.fromkeys(STORES, "file"))
    glance_store.register_store_opts(CONF, reserved_stores=wsgi_app.RESERVED_STORES)
    CONF.set_override("default_backend", STORES[0], "glance_store")
    for store in (*STORES, *wsgi_app.RESERVED_STORES):
        CONF.set_override("filesystem_store_datadir", str(folder / store), store)
    glance_store.create_multi_stores(CONF, reserved_stores=wsgi_app.RESERVED_STORES)
    CONF.set_override("enabled_import_methods", ["glance-direct", "web-download", "copy-image", "glance-download"])
    plugins = ["no_op", "image_decompression", "image_conversion", "inject_image_metadata"]
    CONF.set_override("image_import_plugins", plugins, "image_import_opts")
    CONF.set_override("output_format", "qcow2", "image_conversion")
    CONF.set_override("inject", {"colour": "green"}, "inject_metadata_properties")
    CONF.set_override("conversion_format", "qcow2", "taskflow_executor")


def download(address: Any) -> io.BytesIO:
    """Stand in for the web: an image, and what another Glance says of it."""
    url = getattr(address, "full_url", address)
    about = {
        "status": "active",
        "disk_format": "raw",
        "container_format": "bare",
        "size": len(DATA),
        "os_distro": "plan9",
    }
    content = {URI: gzip.compress(DATA, mtime=0), "http://there.example.org/v2/images/far": json.dumps(about).encode()}
    answer = io.BytesIO(content.get(url, DATA))
    answer.headers = {"content-length": len(answer.getvalue())}
    return answer


def qemu_img(*command: Any, **_: Any) -> tuple[str, str]:
    """Stand in for the program: it says that an image is raw, and makes it qcow2."""
    if "info" in command:
        return json.dumps({"format": "raw", "virtual-size": 4096}), ""
    Path(command[-1]).write_bytes(QCOW2)
    return "", ""


class Stage:
    """Glance, as it is before a task begins: an empty database, and empty stores."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for file in self._files():
            file.unlink()
        with database.session_for_write() as connection:
            for table in reversed(models.BASE.metadata.sorted_tables):
                connection.execute(table.delete())
        self._rules = rules = mock.MagicMock()
        catalog = {"type": "image", "endpoints": [{"region": "there", "publicURL": "http://there.example.org"}]}
        self._context = context.RequestContext(
            user_id="user",
            project_id=TENANT,
            roles=["member"],
            is_admin=True,
            service_catalog=[catalog],
            policy_enforcer=rules,
        )
        self._gateway = gateway.Gateway(notifier=mock.MagicMock(), policy_enforcer=rules)
        self._images = self._gateway.get_repo(self._context)
        self._tasks = self._gateway.get_task_repo(self._context)

    def _files(self) -> list[Path]:
        return sorted(
            file for store in (*STORES, *wsgi_app.RESERVED_STORES) for file in (self._folder / store).glob("*")
        )

    def put(self, store: str, data: bytes = DATA) -> str:
        """Put the image's data into a store, by the back door."""
        path = self._folder / store / IMAGE
        path.write_bytes(data)
        return f"file://{path}"

    def add_image(self, status: str = "queued", store: str | None = None) -> None:
        """Add the image, with its data in a store if there is one."""
        factory = self._gateway.get_image_factory(self._context)
        self._images.add(factory.new_image(image_id=IMAGE, disk_format="raw", container_format="bare", owner=TENANT))
        image = self._images.get(IMAGE)
        if store:
            image.set_data(io.BytesIO(DATA), len(DATA), backend=store)
        elif status != image.status:
            image.status = status
        self._images.save(image)

    def add_task(self, kind: str, **asked: Any) -> Any:
        """Add a task, which has the image locked."""
        task = self._gateway.get_task_factory(self._context).new_task(
            task_type=kind, owner=TENANT, image_id=IMAGE, user_id="user", request_id="request", task_input=asked
        )
        self._tasks.add(task)
        with contextlib.suppress(exception.ImageNotFound):
            self._images.set_property_atomic(self._images.get(IMAGE), "os_glance_import_task", task.task_id)
        return task

    @contextlib.contextmanager
    def executor(self, outside: Outside) -> Iterator[Any]:
        """Give Glance's executor, with all that is outside watched."""
        watched = outside.watch("db", database)
        with contextlib.ExitStack() as patches:
            patches.enter_context(mock.patch.object(glance.db, "get_api", return_value=watched))
            patches.enter_context(outside.patch("web", scripts, "open_external_uri", download))
            patches.enter_context(outside.patch("qemu-img", processutils, "trycmd", qemu_img))
            # Locations must be in stores that are no folders, but here all are.
            patches.enter_context(mock.patch.object(store_utils, "validate_external_location"))
            for method in ("add", "get", "delete"):
                patches.enter_context(outside.patch(f"store.{method}", filesystem.Store, method))
            front = gateway.Gateway(notifier=outside.watch("notifier", mock.MagicMock()), policy_enforcer=self._rules)
            factory = front.get_task_executor_factory(self._context, admin_context=self._context)
            yield factory.new_task_executor(self._context)

    def tell(self, task: Any) -> None:
        """Say what is in the database and in the stores."""
        task = self._tasks.get(task.task_id)
        OUT.say("   task", task.status, text(task.message), plain(task.result))
        try:
            image = self._images.get(IMAGE)
        except exception.ImageNotFound:
            OUT.say("   no image")
        else:
            where = [location["metadata"].get("store") for location in image.locations]
            OUT.say(
                "   image", image.status, image.disk_format, image.size, image.virtual_size, text(image.checksum), where
            )
            OUT.say("   properties", plain(dict(image.extra_properties)))
        OUT.say("   files", [(file.parent.name, text(file.name), file.stat().st_size) for file in self._files()])


def import_of(method: str, stores: tuple[str, ...], **options: Any) -> dict[str, Any]:
    """Return what the API asks for when an image is imported."""
    how = {"name": method, "glance_image_id": "far", "glance_region": "there", "glance_service_interface": "public"}
    if method == "web-download":
        how["uri"] = URI
    return {"image_id": IMAGE, "backend": list(stores), "import_req": {"method": how, **options}}


def main(folder: Path) -> None:
    def set_out(stage: Stage, title: str) -> Any:
        if title.startswith("an import"):
            properties = {"disk_format": "raw", "container_format": "bare"}
            return stage.add_task(
                "import", import_from=URI, import_from_format="raw", image_properties=properties, backend="cheap"
            )
        if title.startswith("a location"):
            stage.add_image()
            validation = {"os_hash_algo": "sha256", "os_hash_value": "0" * 64} if "wrong" in title else {}
            return stage.add_task(
                "location_import", image_id=IMAGE, loc_url=stage.put("fast"), validation_data=validation
            )
        if title.startswith("copy-image"):
            stage.add_image(store="cheap")
            return stage.add_task("api_image_import", **import_of("copy-image", ("fast", "far")))
        method = title.partition(" ")[0]
        stage.add_image("uploading" if method == "glance-direct" else "queued")
        if method == "glance-direct":
            stage.put("os_glance_staging_store")
        some = {"all_stores_must_succeed": False} if "any store" in title else {}
        return stage.add_task(
            "api_image_import", **import_of(method, STORES[:1] if "one" in title else STORES[:2], **some)
        )

    for title in (
        "glance-direct into one store",
        "web-download into two stores",
        "web-download into any store of two",
        "glance-download into two stores",
        "copy-image to two more stores",
        "an import by a task",
        "a location",
        "a location with the wrong hash",
    ):

        def act(outside: Outside, title: str = title) -> None:
            stage = Stage(folder)
            task = set_out(stage, title)
            try:
                with stage.executor(outside) as executor:
                    executor.begin_processing(task.task_id)
            finally:
                stage.tell(task)

        OUT.in_order = True  # its flows are lines, though its engine is one for threads
        explore_outside(OUT, title, act, loggers=["glance.async_.taskflow_executor"])

        def make(title: str = title) -> Any:
            stage = Stage(folder)
            task = set_out(stage, title)
            with stage.executor(Outside(Transcript(lambda _: None))) as executor:
                return executor._get_flow(task)

        explore(OUT, title, make)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        configure(Path(name))
        main(Path(name))
