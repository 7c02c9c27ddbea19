"""What a fresh MicroStack has in it: service users and endpoints (identity), then flavors, image and networks (resources).

    seed.py DIRECTORY identity
    seed.py DIRECTORY resources AGENT...

Can be repeated. The directory has clouds.yaml and the guests' image.
"""

import os
import subprocess
import sys
import time

directory, what, *agents = sys.argv[1:]
os.environ["OS_CLIENT_CONFIG_FILE"] = f"{directory}/clouds.yaml"

import openstack  # noqa: E402

HOST = "10.20.20.1"
REGION = "microstack"
PASSWORD = "rig-service"
cloud = openstack.connect(cloud="microstack")


def identity():
    api = cloud.identity
    project = api.find_project("service") or api.create_project(name="service", domain_id="default")
    roles = [api.find_role("admin"), api.find_role("service") or api.create_role(name="service")]
    for name in ("glance", "placement", "nova", "neutron"):
        user = api.find_user(name) or api.create_user(name=name, domain_id="default", password=PASSWORD)
        for role in roles:
            api.assign_project_role_to_user(project, user, role)
    services = {service.type: service for service in api.services()}
    endpoints = {(endpoint.service_id, endpoint.interface) for endpoint in api.endpoints()}
    for name, kind, url in (
        ("glance", "image", f"http://{HOST}:9292"),
        ("placement", "placement", f"http://{HOST}:8778"),
        ("nova", "compute", f"http://{HOST}:8774/v2.1"),
        ("neutron", "network", f"http://{HOST}:9696"),
    ):
        service = services.get(kind) or api.create_service(name=name, type=kind)
        for interface in ("public", "internal", "admin"):
            if (service.id, interface) not in endpoints:
                api.create_endpoint(service_id=service.id, interface=interface, url=url, region_id=REGION)


def image(name, file, kind, container, **properties):
    found = cloud.image.find_image(name)
    return found or cloud.image.create_image(
        name=name, filename=file, disk_format=kind, container_format=container, visibility="public",
        validate_checksum=False, wait=True, **properties)


def flavors_and_image():
    # MicroStack's names; a guest needs a fraction of their memory. m1.huge fits on no host, and no quota forbids it.
    for name, cpus, memory in (("m1.tiny", 1, 160), ("m1.small", 2, 256), ("m1.huge", 1, 40_000)):
        cloud.compute.find_flavor(name) or cloud.compute.create_flavor(name=name, vcpus=cpus, ram=memory, disk=1)
    if cloud.image.find_image("cirros"):
        return
    guest = f"{directory}/guest"
    with open(f"{guest}/disk", "wb") as disk:
        disk.truncate(1 << 20)
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", f"{guest}/disk", f"{guest}/disk.qcow2"], check=True)
    with open(f"{guest}/cmdline", encoding="ascii") as file:
        arguments = file.read().strip()
    kernel = image("cirros-kernel", f"{guest}/vmlinuz", "aki", "aki")
    ramdisk = image("cirros-ramdisk", f"{guest}/initrd", "ari", "ari")
    image("cirros", f"{guest}/disk.qcow2", "qcow2", "bare", kernel_id=kernel.id, ramdisk_id=ramdisk.id,
          os_command_line=arguments, hw_rng_model="virtio", hw_machine_type="pc")


def networks():
    api = cloud.network
    external = api.find_network("external") or api.create_network(
        name="external", is_router_external=True, provider_network_type="flat", provider_physical_network="physnet1")
    api.find_subnet("external-subnet") or api.create_subnet(
        name="external-subnet", network_id=external.id, ip_version=4, cidr="10.20.20.0/24", gateway_ip=HOST,
        enable_dhcp=False, allocation_pools=[{"start": "10.20.20.10", "end": "10.20.20.250"}])
    test = api.find_network("test") or api.create_network(name="test")
    subnet = api.find_subnet("test-subnet") or api.create_subnet(
        name="test-subnet", network_id=test.id, ip_version=4, cidr="192.168.222.0/24")
    if not api.find_router("test-router"):
        router = api.create_router(name="test-router", external_gateway_info={"network_id": external.id})
        api.add_interface_to_router(router, subnet_id=subnet.id)


def default_groups():
    """Neutron makes a project's security group `default` when somebody first looks, which would seem to be left over from a test."""
    for project in cloud.identity.projects():
        list(cloud.network.security_groups(project_id=project.id))


def wait_for_agents():
    """A port that is bound before its agent has reported itself stays unbound."""
    end = time.time() + 90
    alive = {}
    while not all(alive.get(agent) for agent in agents):
        if time.time() > end:
            sys.exit(f"rig: agents did not report themselves: {alive}")
        time.sleep(0.3)
        alive = {agent.binary: agent.is_alive for agent in cloud.network.agents()}


if what == "identity":
    identity()
else:
    wait_for_agents()
    flavors_and_image()
    networks()
    default_groups()
