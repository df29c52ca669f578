"""Backups of persistent volumes: real Cinder backups, made through VolumeSnapshots, known from Cinder alone."""
