"""Nova virt driver: a server is a systemd-nspawn machine on real Neutron ports.

Image    a tar of a root file system, unpacked once and shared read-only by all servers that use it.
Disk     a sparse ext4 file of the flavor's size: upper layer of the server's root, and its /var/lib/containerd.
Ports    each server has a network namespace; a port is a veth from there to the bridge of the hypervisor's
         linuxbridge agent, named as the agent expects (tap<first 11 digits of the port's id>).
Volumes  the file of Cinder's share as a loop device, whose node is made in the server, with the link
         /dev/disk/by-id/virtio-<first 20 digits of the volume's id> that a KVM guest would have.
Metadata what would be on the config drive lies where cloud-init looks for a copy of one.
"""

import fcntl
import hashlib
import json
import os
import shutil
import stat

import nova.conf
from nova import exception
from nova.api.metadata import base as instance_metadata
from nova.compute import power_state
from nova.virt import driver, hardware, images
from oslo_concurrency import lockutils, processutils

CONF = nova.conf.CONF
IMAGES = "/var/lib/nova/images"
CONFIG_DRIVE = "/var/lib/cloud/seed/config_drive"
LOOP_MAJOR = 7


def run(*command, **options):
    """Run a program; return what it printed."""
    return processutils.execute(*[str(word) for word in command], **options)[0]


class Server:
    """The names, folders and processes of one server."""

    def __init__(self, uuid):
        self.uuid = uuid
        self.folder = os.path.join(CONF.instances_path, uuid)
        self.root = os.path.join(self.folder, "root")
        self.disk = os.path.join(self.folder, "disk")
        self.unit = f"server-{uuid}.service"
        self.namespace = f"server-{uuid}"

    @property
    def exists(self):
        """Whether it was spawned on this hypervisor."""
        return os.path.exists(os.path.join(self.folder, "server.json"))

    @property
    def facts(self):
        """What was noted when it was spawned."""
        with open(os.path.join(self.folder, "server.json")) as file:
            return json.load(file)

    def note(self, **facts):
        """Note facts, whole or not at all."""
        path = os.path.join(self.folder, "server.json")
        with open(path + ".part", "w") as file:
            json.dump(facts, file)
        os.rename(path + ".part", path)

    @property
    def running(self):
        """Whether its machine runs."""
        state = run("systemctl", "show", "--property=ActiveState", "--value", self.unit).strip()
        return state in ("active", "activating", "deactivating", "reloading")

    @property
    def leader(self):
        """Process id of its init, or None."""
        main = run("systemctl", "show", "--property=MainPID", "--value", self.unit).strip()
        if main == "0":
            return None
        return run("pgrep", "--parent", main, "--oldest", check_exit_code=[0, 1]).strip() or None

    @property
    def frozen(self):
        """Whether all its processes are stopped, by the lab's fault of that name."""
        v1 = f"/sys/fs/cgroup/freezer/server-{self.uuid}/freezer.state"
        if os.path.exists(v1):
            with open(v1) as file:
                return file.read().strip() != "THAWED"
        state = run("systemctl", "show", "--property=FreezerState", "--value", self.unit).strip()
        return state not in ("running", "")

    def kill(self):
        """Pull the plug.  A frozen process dies when it is thawed."""
        run("systemctl", "kill", "--signal=KILL", self.unit, check_exit_code=[0, 1, 5])
        run("/usr/local/sbin/freeze-server", self.uuid, "THAWED", check_exit_code=[0, 1])

    def mount(self):
        """Mount its disk, and its root on that; what is mounted stays."""
        if not os.path.ismount(self.disk):
            run("mount", "-o", "loop,nobarrier", self.disk + ".img", self.disk)
        for name in ("upper", "work", "containerd"):
            os.makedirs(os.path.join(self.disk, name), exist_ok=True)
        if not os.path.ismount(self.root):
            layers = f"lowerdir={self.facts['image']},upperdir={self.disk}/upper,workdir={self.disk}/work"
            run("mount", "-t", "overlay", "overlay", "-o", layers, self.root)

    @property
    def volumes(self):
        """Its volumes: file -> "name major minor serial" of the device node."""
        path = os.path.join(self.folder, "volumes.json")
        if not os.path.exists(path):
            return {}
        with open(path) as file:
            return json.load(file)

    def write_volumes(self, volumes):
        """Note its volumes and, when it runs, make its device nodes what they should be."""
        path = os.path.join(self.folder, "volumes.json")
        with open(path + ".part", "w") as file:
            json.dump(volumes, file)
        os.rename(path + ".part", path)
        if self.leader:
            run("/usr/local/sbin/connect-volumes", self.folder, self.leader)

    def unmount(self):
        """Unmount root and disk."""
        for point in (self.root, self.disk):
            if os.path.ismount(point):
                run("umount", point)

    def write(self, path, content, mode=0o644):
        """Write a file below its root."""
        target = self.root + path
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content if isinstance(content, bytes) else content.encode())


class NspawnDriver(driver.ComputeDriver):
    """See the module's docstring."""

    capabilities = {
        **driver.ComputeDriver.capabilities,
        "has_imagecache": False,
        "supports_attach_interface": True,
        "supports_extend_volume": True,
        "supports_image_type_raw": True,
    }

    def init_host(self, host):
        """Remember which hypervisor this is: its name is that of its network namespace."""
        self.host = host
        os.makedirs(IMAGES, exist_ok=True)
        os.makedirs(CONF.instances_path, exist_ok=True)

    # Inventory

    def get_available_nodes(self, refresh=False):
        """One node, named after the hypervisor."""
        return [self.host]

    def get_available_resource(self, nodename):
        """What the host has, minus what the cloud itself takes; the allocation ratios make it a lab's worth."""
        memory_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
        disk = os.statvfs(CONF.instances_path)
        return {
            "vcpus": os.cpu_count(),
            "memory_mb": max(memory_mb - 6144, 2048),
            "local_gb": disk.f_frsize * disk.f_blocks // 2**30,
            "vcpus_used": 0,
            "memory_mb_used": 0,
            "local_gb_used": 0,
            "hypervisor_type": "nspawn",
            "hypervisor_version": 1,
            "hypervisor_hostname": nodename,
            "cpu_info": "{}",
            "disk_available_least": 0,
            "numa_topology": None,
            "supported_instances": [("x86_64", "lxc", "exe")],
        }

    def update_provider_tree(self, provider_tree, nodename, allocations=None):
        """Tell Placement."""
        ratios = self._get_allocation_ratios(provider_tree.data(nodename).inventory)
        resources = self.get_available_resource(nodename)
        inventory = {
            kind: {
                "total": resources[key],
                "min_unit": 1,
                "max_unit": resources[key],
                "step_size": 1,
                "reserved": 0,
                "allocation_ratio": ratios[kind],
            }
            for kind, key in (("VCPU", "vcpus"), ("MEMORY_MB", "memory_mb"), ("DISK_GB", "local_gb"))
        }
        provider_tree.update_inventory(nodename, inventory)

    def get_host_ip_addr(self):
        """The hypervisor's address on the underlay."""
        return CONF.my_ip

    def get_volume_connector(self, instance):
        """What Cinder wants to know of who attaches."""
        return {"ip": CONF.my_ip, "host": CONF.host, "initiator": "none"}

    # Queries

    def _servers(self):
        return [server for server in map(Server, os.listdir(CONF.instances_path)) if server.exists]

    def list_instance_uuids(self):
        """The ids of the servers here."""
        return [server.uuid for server in self._servers()]

    def list_instances(self):
        """Their names."""
        return [server.facts["name"] for server in self._servers()]

    def instance_exists(self, instance):
        """Whether it is here."""
        return Server(instance.uuid).exists

    def get_info(self, instance, use_cache=True):
        """Running or shut down."""
        server = Server(instance.uuid)
        if not server.exists:
            raise exception.InstanceNotFound(instance_id=instance.uuid)
        return hardware.InstanceInfo(state=power_state.RUNNING if server.running else power_state.SHUTDOWN)

    def get_console_output(self, context, instance):
        """The last lines that its init wrote to the console."""
        return run("journalctl", "--unit", Server(instance.uuid).unit, "--output=cat", "--lines=1000").encode()

    # Ports

    def plug_vifs(self, instance, network_info):
        """Connect its ports."""
        server = Server(instance.uuid)
        if not os.path.exists("/run/netns/" + server.namespace):
            run("ip", "netns", "add", server.namespace)
        for vif in network_info or []:
            self._plug(server, vif)

    @staticmethod
    def _tap(vif):
        return ("tap" + vif["id"])[:14]

    def _links(self, namespace):
        return {link["ifname"]: link for link in json.loads(run("ip", "-j", "-n", namespace, "link"))}

    def _plug(self, server, vif):
        tap, bridge = self._tap(vif), vif["network"]["bridge"]
        here, there = self._links(self.host), self._links(server.namespace)
        if tap in here:
            return
        inner = next(name for name in map("eth{}".format, range(64)) if name not in there)
        mtu = vif["network"].get_meta("mtu") or 1500
        ip = ("ip", "-n", self.host, "link")
        if bridge not in here:
            # For a compute port the agent leaves it to Nova to put it on the bridge, as with libvirt's os-vif.
            options = ("forward_delay", 0, "stp_state", 0, "mcast_snooping", 0)
            run(*ip, "add", bridge, "mtu", mtu, "type", "bridge", *options, check_exit_code=[0, 2])
            run(*ip, "set", bridge, "up")
        peer = ("peer", "name", inner, "address", vif["address"], "mtu", mtu, "netns", server.namespace)
        run(*ip, "add", tap, "mtu", mtu, "master", bridge, "type", "veth", *peer)
        run(*ip, "set", tap, "up")

    def unplug_vifs(self, instance, network_info):
        """Disconnect its ports."""
        for vif in network_info or []:
            run("ip", "-n", self.host, "link", "del", self._tap(vif), check_exit_code=[0, 1])

    def attach_interface(self, context, instance, image_meta, vif):
        """Connect one more port."""
        self._plug(Server(instance.uuid), vif)

    def detach_interface(self, context, instance, vif):
        """Disconnect one port."""
        self.unplug_vifs(instance, [vif])

    # Life

    def _image(self, context, image_id):
        path = os.path.join(IMAGES, image_id)
        with lockutils.lock("image-" + image_id, external=True, lock_path=IMAGES):
            if not os.path.isdir(path):
                shutil.rmtree(path + ".part", ignore_errors=True)
                os.makedirs(path + ".part")
                images.fetch(context, image_id, path + ".tar")
                # Without the pattern tar leaves out security.capability, and nobody but root may ping.
                extract = ("--numeric-owner", "--xattrs", "--xattrs-include=*", "--extract")
                run("tar", "-C", path + ".part", *extract, "--file", path + ".tar")
                os.rename(path + ".part", path)
                os.unlink(path + ".tar")
        return path

    def spawn(
        self,
        context,
        instance,
        image_meta,
        injected_files,
        admin_password,
        allocations,
        network_info=None,
        block_device_info=None,
        power_on=True,
        accel_info=None,
    ):
        """Make a server and start it."""
        server = Server(instance.uuid)
        image = self._image(context, instance.image_ref)
        for folder in (server.root, server.disk):
            os.makedirs(folder, exist_ok=True)
        server.note(
            name=instance.name,
            display_name=instance.display_name,
            hostname=instance.hostname,
            image=image,
            namespace=server.namespace,
            memory_mb=instance.memory_mb,
            vcpus=instance.vcpus,
        )
        self._make_disk(server, max(instance.flavor.root_gb, 1))
        server.mount()
        self._write_metadata(server, instance, injected_files, network_info)
        events = [("network-vif-plugged", vif["id"]) for vif in network_info or [] if not vif.get("active")]
        with self.virtapi.wait_for_instance_event(instance, events, deadline=CONF.vif_plugging_timeout):
            self.plug_vifs(instance, network_info)
        if power_on:
            self.power_on(context, instance, network_info, block_device_info)

    @staticmethod
    def _make_disk(server, size_gb):
        run("truncate", f"--size={size_gb}G", server.disk + ".img")
        # No journal: the host keeps what a server wrote, whether or not the server lives on.
        run("mkfs.ext4", "-q", "-O", "^has_journal", "-E", "lazy_itable_init=1", "-m", "0", server.disk + ".img")

    @staticmethod
    def _write_metadata(server, instance, files, network_info):
        metadata = instance_metadata.InstanceMetadata(instance, content=files, network_info=network_info)
        for path, data in metadata.metadata_for_config_drive():
            if path.startswith("openstack/"):
                server.write(f"{CONFIG_DRIVE}/{path}", data, 0o600)

    def power_on(self, context, instance, network_info, block_device_info=None, accel_info=None):
        """Start its machine; what already runs stays."""
        server = Server(instance.uuid)
        server.mount()
        self.plug_vifs(instance, network_info)
        for volume in (block_device_info or {}).get("block_device_mapping", []):
            self.attach_volume(context, volume["connection_info"], instance, volume["mount_device"])
        if not server.running:
            self._start_unit(server)

    def _start_unit(self, server):
        properties = (
            "Type=notify",
            "NotifyAccess=all",
            "KillMode=mixed",
            "TimeoutStopSec=30",
            # systemd-nspawn's way to say that the server rebooted itself.
            "RestartForceExitStatus=133",
            "RestartSec=100ms",
            "Delegate=yes",
            "TasksMax=infinity",
            # When the lab goes down this is still there when nova-compute stops: a server that is stopped by its
            # operator stays stopped, one that was running when the lab went down comes back.
            f"Before=nova-compute@{self.host}.service",
            f"ExecStartPost=/usr/local/sbin/server-started {server.folder}",
            f"ExecStopPost=/usr/local/sbin/server-stopped {server.folder}",
        )
        options = [f"--property={setting}" for setting in properties]
        run(
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={server.unit}",
            *options,
            "/usr/local/sbin/run-server",
            server.folder,
        )

    def power_off(self, instance, timeout=0, retry_interval=0):
        """Shut it down, as its power button would; after 30 seconds pull the plug.  A frozen one is killed at once."""
        server = Server(instance.uuid)
        if server.frozen:
            server.kill()
        run("systemctl", "stop", server.unit, check_exit_code=[0, 5])

    def reboot(
        self,
        context,
        instance,
        network_info,
        reboot_type,
        block_device_info=None,
        bad_volumes_callback=None,
        accel_info=None,
    ):
        """Restart it: in an orderly way, or (hard) by pulling the plug."""
        if reboot_type == "HARD":
            Server(instance.uuid).kill()
        self.power_off(instance)
        self.power_on(context, instance, network_info, block_device_info)

    def resume_state_on_host_boot(self, context, instance, network_info, block_device_info=None):
        """Start it again after the hypervisor was down."""
        self.power_on(context, instance, network_info, block_device_info)

    def destroy(
        self, context, instance, network_info, block_device_info=None, destroy_disks=True, destroy_secrets=True
    ):
        """Pull the plug and clean up: a server that is deleted has nothing to save."""
        Server(instance.uuid).kill()
        self.power_off(instance)
        self.cleanup(context, instance, network_info, block_device_info, destroy_disks)

    def cleanup(
        self,
        context,
        instance,
        network_info,
        block_device_info=None,
        destroy_disks=True,
        migrate_data=None,
        destroy_vifs=True,
        destroy_secrets=True,
    ):
        """Remove what is left of it; what is gone already is no error."""
        server = Server(instance.uuid)
        self.unplug_vifs(instance, network_info)
        run("ip", "netns", "del", server.namespace, check_exit_code=[0, 1])
        for volume in (block_device_info or {}).get("block_device_mapping", []):
            self._detach_loop(self._volume_file(volume["connection_info"]))
        server.unmount()
        for hierarchy in os.listdir("/sys/fs/cgroup"):
            group = f"/sys/fs/cgroup/{hierarchy}/server-{server.uuid}"
            if os.path.isdir(group):
                run("find", group, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+")
        if destroy_disks:
            shutil.rmtree(server.folder, ignore_errors=True)

    # Volumes

    @staticmethod
    def _volume_file(connection_info):
        data = connection_info["data"]
        # Cinder names the mount point after the MD5 of the share.
        share = hashlib.md5(data["export"].encode(), usedforsecurity=False).hexdigest()
        return f"/var/lib/cinder/mnt/{share}/{data['name']}"

    @staticmethod
    def _loop_device(path):
        found = run("losetup", "--noheadings", "--output=NAME", "--associated", path).split()
        return found[0] if found else None

    def get_device_name_for_instance(self, instance, bdms, block_device_obj):
        """The next free /dev/vdX, as a KVM guest would have it."""
        used = {mapping.device_name for mapping in bdms}
        return next(name for name in map("/dev/vd{}".format, "bcdefghijklmnopqrstuvwxyz") if name not in used)

    def _attach_loop(self, path):
        """Three hypervisors ask for free devices at once; and /dev here is not the host's."""
        with open("/run/lock/loop-devices", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            device = self._loop_device(path)
            if device:
                return device
            device = run("losetup", "--find").strip()
            if not os.path.exists(device):
                os.mknod(device, 0o660 | stat.S_IFBLK, os.makedev(LOOP_MAJOR, int(device.removeprefix("/dev/loop"))))
            run("losetup", device, path)
            return device

    def _detach_loop(self, path):
        device = self._loop_device(path)
        if device:
            run("losetup", "--detach", device)

    def attach_volume(
        self, context, connection_info, instance, mountpoint, disk_bus=None, device_type=None, encryption=None
    ):
        """Make the volume's device node in the server, now and whenever it boots."""
        server, file = Server(instance.uuid), self._volume_file(connection_info)
        number = os.stat(self._attach_loop(file)).st_rdev
        serial = (connection_info.get("serial") or "")[:20]
        node = f"{os.path.basename(mountpoint)} {os.major(number)} {os.minor(number)} {serial}"
        server.write_volumes({**server.volumes, file: node})

    def detach_volume(self, context, connection_info, instance, mountpoint, encryption=None):
        """Take the volume's device node away."""
        server, file = Server(instance.uuid), self._volume_file(connection_info)
        server.write_volumes({path: node for path, node in server.volumes.items() if path != file})
        self._detach_loop(file)

    def extend_volume(self, context, connection_info, instance, requested_size):
        """Let the device take its file's new size."""
        run("losetup", "--set-capacity", self._loop_device(self._volume_file(connection_info)))
