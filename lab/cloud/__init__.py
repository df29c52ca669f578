"""The cloud: OpenStack from Debian packages in one machine, with three hypervisors."""
