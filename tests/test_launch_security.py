"""Pods keep the security level that their profile says, get what they ask for, and no token."""

from __future__ import annotations

import pytest

from hqclip.launch.registry import KUBERNETES
from tests.pod_security import against_baseline, against_restricted
from tests.rendering import NETWORKS, PROFILES, Json, every_container, rendered, rich, template


@pytest.fixture(params=KUBERNETES)
def scheduler(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def strictest(pod: Json) -> str:
    """In hqclip's words: `network` keeps neither."""
    return "network" if against_baseline(pod) else "baseline" if against_restricted(pod) else "restricted"


@pytest.mark.parametrize("profile", PROFILES)
def test_the_pods_of_a_profile_keep_the_security_level_it_says(profile: str, scheduler: str) -> None:
    body = rendered(scheduler, profile=profile)
    assert strictest(template(body)) == PROFILES[profile].get("security", "restricted")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_asks_for_the_strictest_level_that_lets_it_work(network: str, scheduler: str) -> None:
    body = rendered(scheduler, network=network, security="network")
    assert strictest(template(body)) == NETWORKS[network]["security"]


def test_volumes_secrets_and_devices_keep_the_strictest_level(scheduler: str) -> None:
    assert against_restricted(template(rich(scheduler))) == []


def test_the_networks_of_gke_break_just_these_rules(scheduler: str) -> None:
    gib, tcpxo = (template(rendered(scheduler, profile=name)) for name in ("gke-a3-ultra", "gke-a3-mega"))
    assert set(against_restricted(gib)) == {"runAsNonRoot", "runAsUser", "drop ALL"}
    assert set(against_baseline(tcpxo)) == {"hostPath", "capability NET_ADMIN"}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_container_gets_what_it_asks_for_and_no_token(profile: str, scheduler: str) -> None:
    pod = template(rendered(scheduler, profile=profile, secret_env=["HF_TOKEN=hub/token"]))
    for container in every_container(pod):
        resources = container["resources"]
        assert resources["requests"] == resources["limits"]
        assert {"cpu", "memory"} <= resources["limits"].keys()
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume]


def test_a_capability_is_of_use_to_the_user_who_has_it(scheduler: str) -> None:
    """Kubernetes gives added capabilities to root alone: others lose them when their program starts."""
    for network in NETWORKS:
        pod = template(rendered(scheduler, network=network, security="network"))
        for container in every_container(pod):
            security = {**pod["spec"]["securityContext"], **container.get("securityContext", {})}
            assert not security.get("capabilities", {}).get("add") or security["runAsUser"] == 0
