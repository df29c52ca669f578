"""What is done through the Kubernetes API, with no program but this one: add-ons, credentials, smoke tests."""
