"""Octavia: every flow that its worker makes."""

from __future__ import annotations

import logging
from unittest import mock

from octavia.common import constants as names
from octavia.controller.worker.v2.flows import flow_utils
from oslo_config import cfg
from standins import explore
from transcript import Transcript

OUT = Transcript()
LB_ID, AMP_ID = "11111111-0000-4000-8000-000000000001", "22222222-0000-4000-8000-000000000001"
FLAVOR = {names.LOADBALANCER_TOPOLOGY: names.TOPOLOGY_SINGLE}


def amphora(number: int, role: str) -> dict[str, object]:
    return {
        names.ID: f"{AMP_ID[:-1]}{number}",
        names.ROLE: role,
        names.COMPUTE_ID: f"compute{number}",
        names.LOAD_BALANCER_ID: LB_ID,
        names.LB_NETWORK_IP: f"192.0.2.{number}",
        names.VRRP_PORT_ID: f"port{number}",
        names.VRRP_IP: f"198.51.100.{number}",
        names.STATUS: names.AMPHORA_ALLOCATED,
    }


def balancer(topology: str) -> dict[str, object]:
    return {
        names.ID: LB_ID,
        names.LOADBALANCER_ID: LB_ID,
        names.PROJECT_ID: "project",
        names.FLAVOR: {names.LOADBALANCER_TOPOLOGY: topology},
        names.TOPOLOGY: topology,
        names.AVAILABILITY_ZONE: None,
        "vip": {},
    }


def main() -> None:
    cfg.CONF([], project="octavia")
    single, pair = names.TOPOLOGY_SINGLE, names.TOPOLOGY_ACTIVE_STANDBY
    listeners = [{names.LISTENER_ID: f"listener{n}"} for n in range(3)]
    pools = [{names.POOL_ID: f"pool{n}"} for n in range(3)]
    members = [{names.MEMBER_ID: f"member{n}"} for n in range(5)]
    master, backup = amphora(1, names.ROLE_MASTER), amphora(2, names.ROLE_BACKUP)
    alone = amphora(3, names.ROLE_STANDALONE)
    flows = flow_utils
    for title, make in {
        "create load balancer": lambda: flows.get_create_load_balancer_flow(single),
        "create load balancer with listeners": lambda: flows.get_create_load_balancer_flow(single, listeners, FLAVOR),
        "create pair": lambda: flows.get_create_load_balancer_flow(pair),
        "create pair with listeners": lambda: flows.get_create_load_balancer_flow(pair, listeners, FLAVOR),
        "delete load balancer": lambda: flows.get_delete_load_balancer_flow(balancer(single)),
        "delete all of it": lambda: flows.get_cascade_delete_load_balancer_flow(balancer(single), listeners, pools),
        "update load balancer": flows.get_update_load_balancer_flow,
        "delete amphora": lambda: flows.get_delete_amphora_flow(master, 3, 1),
        "fail over": lambda: flows.get_failover_LB_flow([alone], balancer(single)),
        "fail over without amphorae": lambda: flows.get_failover_LB_flow([], balancer(single)),
        "fail over pair": lambda: flows.get_failover_LB_flow([master, backup], balancer(pair)),
        "fail over amphora": lambda: flows.get_failover_amphora_flow(master, 2, FLAVOR),
        "fail over single amphora": lambda: flows.get_failover_amphora_flow(alone, 1),
        "rotate certificates": flows.cert_rotate_amphora_flow,
        "update amphora": flows.update_amphora_config_flow,
        "create health monitor": flows.get_create_health_monitor_flow,
        "delete health monitor": flows.get_delete_health_monitor_flow,
        "update health monitor": flows.get_update_health_monitor_flow,
        "create policy": flows.get_create_l7policy_flow,
        "delete policy": flows.get_delete_l7policy_flow,
        "update policy": flows.get_update_l7policy_flow,
        "create rule": flows.get_create_l7rule_flow,
        "delete rule": flows.get_delete_l7rule_flow,
        "update rule": flows.get_update_l7rule_flow,
        "create listener": flows.get_create_listener_flow,
        "create listener with flavor": lambda: flows.get_create_listener_flow(flavor_dict=FLAVOR),
        "create all listeners": flows.get_create_all_listeners_flow,
        "delete listener": flows.get_delete_listener_flow,
        "update listener": flows.get_update_listener_flow,
        "create member": flows.get_create_member_flow,
        "delete member": flows.get_delete_member_flow,
        "update member": flows.get_update_member_flow,
        "change members": lambda: flows.get_batch_update_members_flow(
            members[:2], members[2:3], [(member, {"weight": 1}) for member in members[3:]]
        ),
        "create pool": flows.get_create_pool_flow,
        "delete pool": flows.get_delete_pool_flow,
        "update pool": flows.get_update_pool_flow,
    }.items():
        explore(OUT, title, make)


def port_ids(repository: object, database: object, amphora: str) -> list[str]:
    return [f"{amphora}-port{n}" for n in range(2)]


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    repositories = "octavia.db.repositories."
    with (
        mock.patch("time.sleep"),
        mock.patch("octavia.common.utils.get_network_driver"),
        mock.patch("octavia.common.rpc.NOTIFIER"),
        mock.patch("octavia.db.api.get_session"),
        mock.patch(repositories + "AmphoraRepository.get_amphorae_ids_on_lb", return_value=["one", "two"]),
        mock.patch(repositories + "AmphoraMemberPortRepository.get_port_ids", port_ids),
    ):
        main()
