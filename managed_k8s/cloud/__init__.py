"""The cluster's side of OpenStack, on openstacksdk and with an ordinary project account."""
