"""Masakari: recoveries of hosts, instances and processes by its own driver and tasks, recorded in a database."""

from __future__ import annotations

import itertools
import logging
import tempfile
from pathlib import Path
from unittest import mock

import masakari.conf
from oslo_config import cfg
from transcript import Transcript, plain

OUT = Transcript()
NUMBERS = itertools.count(1)


def record(driver: object, method: str, uuid: str) -> None:
    """Say what the driver reads back of a recovery."""
    notification = mock.Mock(notification_uuid=uuid, type="COMPUTE_HOST", payload={"event": "stopped"})
    from masakari.objects import fields

    for kind in (fields.NotificationType.COMPUTE_HOST, fields.NotificationType.VM, fields.NotificationType.PROCESS):
        notification.type = kind
        for step in driver.get_notification_recovery_workflow_details(mock.Mock(), method, notification):
            details = [
                {key: value for key, value in detail.items() if key != "timestamp"} for detail in step.progress_details
            ]
            OUT.say("   recorded", kind, step.name, step.state, step.progress, plain(details))


def main() -> None:
    from masakari import objects
    from masakari.engine.drivers.taskflow import driver as drivers, host_failure, instance_failure, process_failure
    from masakari.objects import fields
    from masakari.tests.unit import fakes

    objects.register_all()
    driver = drivers.TaskFlowDriver()
    driver.upgrade_backend(cfg.CONF.taskflow.connection)
    methods = fields.FailoverSegmentRecoveryMethod
    classes = [
        host_failure.DisableComputeServiceTask,
        host_failure.PrepareHAEnabledInstancesTask,
        host_failure.EvacuateInstancesTask,
        instance_failure.StopInstanceTask,
        instance_failure.StartInstanceTask,
        instance_failure.ConfirmInstanceActiveTask,
        process_failure.DisableComputeNodeTask,
        process_failure.ConfirmComputeNodeDisabledTask,
    ]

    def nova() -> mock.MagicMock:
        server = fakes.FakeNovaClient.Server(id="1", uuid="server", host="host", vm_state="active", ha_enabled=True)
        client = mock.MagicMock()
        client.get_server.return_value = server
        client.get_servers.return_value = [server]
        client.is_service_disabled.return_value = True

        def state(name: str) -> object:
            return lambda *args, **kwargs: setattr(server, "OS-EXT-STS:vm_state", name)

        client.stop_server.side_effect = state("stopped")
        client.start_server.side_effect = state("active")
        return client

    def recover(title: str, call: object, method: str = methods.AUTO) -> None:
        uuid = f"00000000-0000-4000-8000-{next(NUMBERS):012}"
        OUT.say("recover", title)
        with mock.patch("masakari.compute.nova.API", side_effect=nova):
            try:
                OUT.say("   returned", plain(call(uuid)))
            except Exception as error:  # noqa: BLE001 - whatever it is, both packages must raise it
                OUT.say("   raised", type(error).__name__, plain(str(error)))
        record(driver, method, uuid)

    context = mock.MagicMock()

    def recoveries(suffix: str = "") -> None:
        recover("instance" + suffix, lambda uuid: driver.execute_instance_failure(context, "1", uuid))
        recover("process" + suffix, lambda uuid: driver.execute_process_failure(context, "nova-compute", "host", uuid))
        for method in (methods.AUTO, methods.RESERVED_HOST, methods.AUTO_PRIORITY, methods.RH_PRIORITY):
            recover(
                f"host by {method}{suffix}",
                lambda uuid, method=method: driver.execute_host_failure(
                    context,
                    "host",
                    method,
                    uuid,
                    update_host_method=mock.Mock(),
                    reserved_host_list=["spare1", "spare2"],
                ),
                method,
            )

    with OUT.every_run(), mock.patch("masakari.objects.VMove"), mock.patch("masakari.objects.VMoveList") as moves:
        moves.get_all_vmoves.return_value = []
        recoveries()
        for cls in classes:
            with mock.patch.object(cls, "execute", side_effect=LookupError("the cloud is gone")):
                recoveries(f", {cls.__name__} fails")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder, mock.patch("time.sleep"), mock.patch("eventlet.sleep"):
        masakari.conf.CONF([], project="masakari")
        # Read when the driver is imported.
        cfg.CONF.set_override("connection", f"sqlite:///{Path(folder) / 'records.sqlite'}", "taskflow")
        cfg.CONF.set_override("wait_period_after_power_off", 1)
        cfg.CONF.set_override("wait_period_after_power_on", 1)
        main()
