"""Cinder driver: volumes are sparse raw files on a share; snapshots and clones are copies of them.

The NFS driver it builds on makes snapshots as qcow2 chains, which only a qemu hypervisor can attach.
"""

import os

from cinder.volume.drivers import nfs
from oslo_utils import units


class SparseFilesDriver(nfs.NfsDriver):
    """The NFS driver with snapshots that are plain copies."""

    def _snapshot_file(self, snapshot):
        return os.path.join(self._local_volume_dir(snapshot.volume), f"snapshot-{snapshot.id}")

    def _copy(self, source, target, size_gb):
        self._execute("copy-volume", source, target, run_as_root=True)
        if os.path.getsize(target) < size_gb * units.Gi:
            os.truncate(target, size_gb * units.Gi)

    def create_snapshot(self, snapshot):
        """Copy the volume's file, with the file systems on it frozen."""
        self._copy(self.local_path(snapshot.volume), self._snapshot_file(snapshot), snapshot.volume_size)

    def delete_snapshot(self, snapshot):
        """Remove the copy; one that is gone is no error."""
        self._delete(self._snapshot_file(snapshot))

    def extend_volume(self, volume, new_size):
        """Let the file grow, attached or not; the NFS driver refuses when it is."""
        os.truncate(self.local_path(volume), new_size * units.Gi)

    def create_volume_from_snapshot(self, volume, snapshot):
        """Copy a snapshot to a new volume, which may be larger."""
        return self._create_from(volume, self._snapshot_file(snapshot))

    def create_cloned_volume(self, volume, src_vref):
        """Copy a volume to a new one, which may be larger."""
        return self._create_from(volume, self.local_path(src_vref))

    def _create_from(self, volume, source):
        self._ensure_shares_mounted()
        volume.provider_location = self._find_share(volume)
        self._copy(source, self.local_path(volume), volume.size)
        return {"provider_location": volume.provider_location}
