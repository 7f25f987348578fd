"""The flow that creates a volume: six tasks in a line, each of which knows how to undo itself.

The arguments of `execute` and `revert` say what a task needs, by name. `service` and `request` are given to
the engine as `store=`; the other names are what tasks provide (`default_provides`).

`revert` can also ask for `result`: what `execute` returned, or a `Failure` if it is this task that failed.
What the `revert` methods here return is a word to whoever listens to the engine.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import TYPE_CHECKING, Any

from demo_service import Row

from taskflowx.patterns import linear_flow
from taskflowx.task import EVENT_UPDATE_PROGRESS, Task
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from demo_service import CloudService

PIECE = 2 << 20  # bytes


class InvalidRequestError(Exception):
    """The request lacks something, or asks for what there is not."""


class CheckRequest(Task):
    """Take from the request what the other tasks need. This changes nothing, so there is nothing to undo."""

    default_provides = ("name", "image", "size")

    def execute(self, service: CloudService, request: dict[str, str]) -> tuple[str, Path, int]:
        images = {image.name: image for image in service.images.iterdir()}
        if not request.get("name"):
            raise InvalidRequestError("a volume needs a name")
        if request.get("image") not in images:
            raise InvalidRequestError(f"there is no image {request.get('image')!r}, only {sorted(images)}")
        image = images[request["image"]]
        return request["name"], image, image.stat().st_size


class ReserveQuota(Task):
    """Set aside as much of the customer's quota as the volume needs."""

    def execute(self, service: CloudService, size: int) -> None:
        service.reserve(size)

    def revert(self, service: CloudService, size: int, result: Any) -> str:
        if isinstance(result, Failure):
            return "nothing was reserved"
        service.release(size)
        return "reservation given back"


class CreateRow(Task):
    """Enter the volume in the database, under an identifier of its own."""

    default_provides = "volume_id"

    def execute(self, service: CloudService, name: str, size: int) -> str:
        volume_id = uuid.uuid4().hex[:8]
        service.add_row(Row(volume_id, name, size, status="creating", checksum=""))
        return volume_id

    def revert(self, service: CloudService, result: Any) -> str:
        if isinstance(result, Failure):
            return "no row was created"
        service.remove_row(result)
        return "row deleted"


class CommitQuota(Task):
    """Count what was reserved as used."""

    def execute(self, service: CloudService, size: int) -> None:
        service.commit(size)

    def revert(self, service: CloudService, size: int, result: Any) -> str:
        if isinstance(result, Failure):
            return "nothing was committed"
        service.uncommit(size)
        return "quota only reserved again"


class BuildVolume(Task):
    """Copy the image piece by piece, with its checksum, and report how far that has come."""

    default_provides = "checksum"

    def execute(self, service: CloudService, volume_id: str, image: Path, size: int) -> str:
        digest = hashlib.sha256()
        with image.open("rb") as source, service.volume_file(volume_id).open("wb") as target:
            while piece := source.read(PIECE):
                digest.update(piece)
                target.write(piece)
                target.flush()
                os.fsync(target.fileno())  # so that progress tells what is really on the disk
                self.update_progress(target.tell() / size)
        service.update_row(volume_id, "built", digest.hexdigest())
        return digest.hexdigest()

    def revert(self, service: CloudService, volume_id: str) -> str:
        # Whether it failed or not: there may be half a file.
        service.volume_file(volume_id).unlink(missing_ok=True)
        service.update_row(volume_id, "creating", checksum="")
        return "file removed"


class HandOver(Task):
    """Leave the volume to the scheduler, which finds a host for it."""

    def execute(self, service: CloudService, volume_id: str, checksum: str) -> None:
        service.order(volume_id, checksum)

    def revert(self, service: CloudService, volume_id: str, result: Any) -> str:
        if isinstance(result, Failure):
            return "nothing was handed over"
        service.cancel(volume_id)
        return "order cancelled"


def volume_flow(on_progress: Callable[..., None]) -> linear_flow.Flow:
    """Return the flow, which needs `service` and `request`.

    :param on_progress: called with the event and its details each time a piece of the volume has been copied
    """
    build = BuildVolume("build the volume from the image")
    build.notifier.register(EVENT_UPDATE_PROGRESS, on_progress)
    return linear_flow.Flow("create a volume").add(
        CheckRequest("check the request"),
        ReserveQuota("reserve quota"),
        CreateRow("create the database row"),
        CommitQuota("commit the quota"),
        build,
        HandOver("hand over to the scheduler"),
    )
