"""One fault after another on the cluster in the lab, which heals itself: `make soak`, or `python -m tests.soak`."""

from __future__ import annotations

import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from managed_k8s.names import ROLES
from tests.soak.draw import draw
from tests.soak.run import Soak
from tests.support import command_line
from tests.support.checkout import Checkout, Cluster

app = typer.Typer(add_completion=False)


@app.command()
def main(
    faults: Annotated[int, typer.Option(min=1, help="How many.")] = 20,
    seed: Annotated[int | None, typer.Option(help="The same seed draws the same faults.")] = None,
    cluster: Annotated[str, typer.Option(help="Which.")] = "demo",
    show: Annotated[bool, typer.Option("--show", help="Only print what would be drawn.")] = False,
) -> None:
    """Make faults by chance, one after another, each once the one before is healed.

    The exit code is 1 when one was not healed in time, or an acknowledged write was lost; 130 when interrupted.
    """
    clouds = command_line.clouds()
    if clouds is None:
        sys.exit("The lab is not up; start it with: make lab")
    # Whoever ends it, and also in the background: what was made is undone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10**6) if seed is None else seed
    checkout = Checkout(command_line.CHECKOUT)
    with tempfile.TemporaryDirectory() as folder:
        found = Cluster.of(checkout, cluster, command_line.connect(clouds), Path(folder))
        try:
            drawn = draw(seed, faults, {role: found.names(role) for role in ROLES})
        except ValueError as error:
            sys.exit(f"{cluster}: {error}; make cluster makes one that does")
        print(f"SEED={seed} N={faults}: the same faults again with these", flush=True)
        if show:
            print("\n".join(map(str, drawn)))
            return
        checkout.start_master(clouds)
        sys.exit(Soak(found).run(drawn))


if __name__ == "__main__":
    app()
