"""What people and monitoring see of a cluster: one set of facts, and its views: status, diagram, metrics."""
