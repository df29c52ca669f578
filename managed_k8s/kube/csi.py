"""Names around Cinder CSI that more than one part of this uses."""

DRIVER = "cinder.csi.openstack.org"
# The VolumeSnapshotClass of managed_k8s/volumes.
BACKUP_CLASS = "managed-k8s-backup"
