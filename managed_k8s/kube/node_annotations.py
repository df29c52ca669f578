"""What we write on a Node, and who may have written it."""

# Who cordoned the Node, and the server that nothing runs on any more.
CORDONED, DRAINED = "managed-k8s/cordoned-by", "managed-k8s/drained"
# Who cordons.
REMOVAL, OPERATOR, MAINTENANCE = "removal", "operator", "maintenance"
