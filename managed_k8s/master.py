"""`python -m managed_k8s.master`: the Salt master's command line."""

from managed_k8s.salt_master.cli import app

if __name__ == "__main__":
    app()
