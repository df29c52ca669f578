"""The cluster drawn, as SVG: a view of what status/status.py says.

Nothing but the facts moves it: the same status is the same picture. It needs no other file and no script.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from managed_k8s import names
from managed_k8s.plan import progress
from managed_k8s.status.status import ABSENT, BAD, BUSY, GOOD, UNKNOWN

Data = Mapping[str, Any]

# Fill, line and word of each state.
_COLOURS = {
    GOOD: ("#eaf7ed", "#2e7d46", "well"),
    BUSY: ("#e8f1fc", "#1f5fae", "being changed"),
    BAD: ("#fdeaea", "#c0392b", "ill"),
    ABSENT: ("#ffffff", "#c0392b", "missing"),
    UNKNOWN: ("#fdf5e0", "#b9770e", "not known"),
}
# Of a volume that nobody uses: neither good nor bad.
_LOOSE = ""
_GREY = ("#f4f6f8", "#9aa5b1", "")
_WIDTH, _MARGIN, _GAP = 1120, 32, 20
# Width and height of a server's box; of one with its name alone; of one with its number alone.
_BOX, _HEIGHT = 320, 92
_NAMED, _NUMBERED = (172, 40), (54, 28)
# Most servers of a role whose boxes say all, and most whose boxes have names.
_FEW, _MANY = 12, 60
# Volumes that are drawn one by one.
_VOLUMES = 8
_INNER = _WIDTH - 2 * _MARGIN
_FONT = "system-ui, 'Segoe UI', Helvetica, Arial, 'DejaVu Sans', sans-serif"

_STYLE = f"""
    text {{ font-family: {_FONT}; font-size: 13px; fill: #39424e }}
    .title {{ font-size: 24px; font-weight: 600; fill: #1d242c }}
    .name {{ font-weight: 600; font-size: 14px; fill: #1d242c }}
    .layer {{ font-size: 12px; font-weight: 600; fill: #6b7785; letter-spacing: 1px;
      paint-order: stroke; stroke: #fff; stroke-width: 5px }}
    .small {{ font-size: 12px; fill: #6b7785 }}
    .wire {{ fill: none; stroke: #9aa5b1; stroke-width: 1.5 }}
    .live {{ fill: none; stroke: #1f5fae; stroke-width: 2.5 }}
    .middle {{ text-anchor: middle }}
    .end {{ text-anchor: end }}
"""


def draw(data: Data) -> str:
    """Return the picture.

    data: as status() returns it.
    """
    picture = _Picture(data)
    body = "\n".join(picture.lines())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {picture.height:.0f}" width="{_WIDTH}" '
        f'height="{picture.height:.0f}" role="img">\n'
        f"<title>{escape(data['cluster'])}: {escape(_verdict(data))}</title>\n<style>{_STYLE}</style>\n"
        f'<rect width="{_WIDTH}" height="{picture.height:.0f}" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _verdict(data: Data) -> str:
    if not data["ready"]:
        return "not ready"
    return "as it should be, but for what is wrong" if data["wrong"] else "as it should be"


class _Picture:
    """The layers from top to bottom: address, gateways, masters with etcd, workers, volumes."""

    def __init__(self, data: Data) -> None:
        self.data = data
        self.height: float = 0
        # Where the gateway ends that has the address.
        self.holder: tuple[float, float] | None = None

    def lines(self) -> list[str]:
        found = [*self._head()]
        found += self._address()
        for role, title in ((names.GATEWAY, "GATEWAYS"), (names.MASTER, "MASTERS"), (names.WORKER, "WORKERS")):
            found += self._layer(title, [node for node in self.data["nodes"] if node["role"] == role])
        found += self._volumes()
        found += self._wrong()
        found += self._foot()
        return found

    def _head(self) -> Iterator[str]:
        data = self.data
        state = BUSY if not data["ready"] else BAD if data["wrong"] else GOOD
        state = BAD if data["wrong"] and not data["ready"] else state
        fill, line, _ = _COLOURS[state]
        yield _text(_MARGIN, 50, data["cluster"], "title")
        verdict = _verdict(data)
        width = 9 * len(verdict) * 0.82 + 28
        x = _MARGIN + 17 * len(data["cluster"]) + 20
        yield f'<rect x="{x}" y="30" width="{width:.0f}" height="26" rx="13" fill="{fill}" stroke="{line}"/>'
        yield _text(x + width / 2, 48, verdict, "middle")
        yield _text(_WIDTH - _MARGIN, 42, f"Kubernetes {data['version']}", "end")
        clock = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(data["time"]))
        yield _text(_WIDTH - _MARGIN, 60, clock, "small end")
        self.height = 84

    # How clients come in

    def _address(self) -> Iterator[str]:
        address, top = self.data["address"], self.height
        middle, width = _WIDTH / 2, 400
        style = _COLOURS[GOOD if self.data["api"] else BAD]
        public = address["public"]
        yield _pill(middle - width / 2, top, width, 48, style)
        words = f"https://{public or address['virtual']}:6443"
        yield _text(middle, top + 21, words, "name middle")
        inside = f"floating IP of {address['virtual']}" if public else "virtual IP; no floating IP is known"
        answers = "the API answers" if self.data["api"] else "the API does not answer"
        yield _text(middle, top + 38, f"{answers}; {inside}", "small middle")
        self.height = top + 48

    # Servers

    def _layer(self, title: str, nodes: Sequence[Data]) -> Iterator[str]:
        top = self.height + 50
        if not nodes:
            yield _text(_MARGIN, top - 10, f"{title} · none", "layer")
            self.height = top - 4
            return
        width, height = (_BOX, _HEIGHT) if len(nodes) <= _FEW else _NAMED if len(nodes) <= _MANY else _NUMBERED
        places = [*_places(len(nodes), width, height, top)]
        # Wires are under all that is written.
        yield from self._wires(title, nodes, [(x + width / 2, y) for x, y in places])
        well = sum(node["state"] == GOOD for node in nodes)
        yield _text(_MARGIN, top - 10, f"{title} · {well} of {len(nodes)} well", "layer")
        if title == "MASTERS":
            yield _text(_MARGIN + 216, top - 10, self._etcd(), "layer")
        for node, (x, y) in zip(nodes, places, strict=True):
            yield from self._box(node, x, y) if height == _HEIGHT else _small(node, x, y, width, height)
        self.height = places[-1][1] + height

    def _etcd(self) -> str:
        etcd = self.data["etcd"]
        if etcd is None:
            return "ETCD · not known" if "etcd" in self.data["unknown"] else "ETCD · none yet"
        quorum = "" if etcd["quorum"] else ", the quorum is lost"
        return f"ETCD · {etcd['healthy']} of {etcd['voters']} members healthy{quorum}"

    def _wires(self, title: str, nodes: Sequence[Data], ends: Sequence[tuple[float, float]]) -> Iterator[str]:
        """Draw how a request goes: from the address to the gateway that has it, from there to Ready masters."""
        if title == "GATEWAYS":
            start = (_WIDTH / 2, self.height)
            # The one that counts lies on top.
            for node, end in sorted(zip(nodes, ends, strict=True), key=lambda each: each[0]["virtual_ip"] is True):
                yield _wire(start, end, "live" if node["virtual_ip"] is True else "wire")
                if node["virtual_ip"] is True:
                    self.holder = (end[0], end[1] + _HEIGHT)
        elif title == "MASTERS" and self.holder:
            for node, end in zip(nodes, ends, strict=True):
                if node["kubernetes"] == progress.READY:
                    yield _wire(self.holder, end, "live" if self.data["api"] else "wire")

    def _box(self, node: Data, x: float, y: float) -> Iterator[str]:
        yield f"<g><title>{escape(_about(node))}</title>"
        yield _rect(x, y, _BOX, _HEIGHT, node["state"])
        yield f'<circle cx="{x + 18:.0f}" cy="{y + 20:.0f}" r="5" fill="{_COLOURS[node["state"]][1]}"/>'
        yield _text(x + 32, y + 25, node["name"], "name")
        if node["address"]:
            yield _text(x + _BOX - 14, y + 25, node["address"], "small end")
        yield _text(x + 14, y + 47, _short(_facts(node), 36))
        # Its cylinder says it.
        notes = [_doing(node), *(note for note in node["notes"] if note != "in etcd")]
        yield _text(x + 14, y + 66, _short(", ".join(filter(None, notes)), 38), "small")
        if node["floating_ip"]:
            yield _text(x + 14, y + 83, f"floating IP {node['floating_ip']}", "small")
        if node["role"] == names.MASTER:
            yield from _cylinder(x + _BOX - 62, y + 42, 44, 38, _member_state(node, self.data), "etcd")
        if node["volumes"]:
            yield from _cylinder(x + _BOX - 62, y + 42, 44, 38, GOOD, f"{len(node['volumes'])} vol.")
        yield "</g>"

    # Volumes

    def _volumes(self) -> Iterator[str]:
        volumes = self.data["volumes"]
        if not volumes:
            unknown = {"kubernetes", "volumes"} & self.data["unknown"].keys()
            words = "none" if volumes is not None else "not known" if unknown else "none yet"
            yield _text(_MARGIN, self.height + 34, f"VOLUMES · {words}", "layer")
            self.height += 40
            return
        attached = sum(bool(volume["node"]) for volume in volumes)
        top = self.height + 44
        yield _text(_MARGIN, top - 10, f"VOLUMES · {attached} of {len(volumes)} attached", "layer")
        places = [*_places(min(len(volumes), _VOLUMES), 250, 46, top)]
        for volume, (x, y) in zip(volumes, places, strict=False):
            yield from _cylinder(x, y + 2, 34, 38, GOOD if volume["node"] else _LOOSE)
            yield _text(x + 44, y + 19, _short(volume["claim"] or volume["name"], 28))
            where = f"on {volume['node']}" if volume["node"] else "not attached"
            yield _text(x + 44, y + 36, f"{volume['size']} {where}", "small")
        self.height = places[-1][1] + 46
        if len(volumes) > _VOLUMES:
            yield _text(_MARGIN, self.height + 18, f"and {len(volumes) - _VOLUMES} more", "small")
            self.height += 20

    # Words

    def _wrong(self) -> Iterator[str]:
        sentences = [*self.data["wrong"], *self.data["waiting"]]
        if not sentences:
            return
        self.height += 44
        yield _text(_MARGIN, self.height - 10, "WRONG, OR WAITED FOR", "layer")
        for sentence in sentences[:6]:
            self.height += 20
            yield _text(_MARGIN + 4, self.height - 4, f"– {_short(sentence, 150)}")
        if len(sentences) > 6:
            self.height += 20
            yield _text(_MARGIN + 4, self.height - 4, f"and {len(sentences) - 6} more", "small")

    def _foot(self) -> Iterator[str]:
        top, x = self.height + 44, float(_MARGIN)
        yield f'<path d="M{_MARGIN} {top - 18:.0f}H{_WIDTH - _MARGIN}" stroke="#e1e5ea"/>'
        for fill, line, word in _COLOURS.values():
            box = f'x="{x:.0f}" y="{top - 2:.0f}" width="18" height="12" rx="3"'
            yield f'<rect {box} fill="{fill}" stroke="{line}"{_dash(word)}/>'
            yield _text(x + 25, top + 9, word, "small")
            x += 42 + 7 * len(word)
        yield _text(_WIDTH - _MARGIN, top + 9, self._saved(), "small end")
        self.height = top + 30

    def _saved(self) -> str:
        backup, now = self.data["backup"], self.data["time"]
        words = "no backup yet"
        if backup["newest"]:
            wrong = f", {len(backup['problems'])} wrong" if backup["problems"] else ""
            words = f"newest backup {(now - backup['time']) / 60:.0f} min old{wrong}"
        ends = [each["ends"] for each in self.data["certificates"] if each["ends"] is not None]
        return f"{words}; first certificate ends in {(min(ends) - now) / 86400:.0f} days" if ends else words


def _places(count: int, width: float, height: float, top: float) -> Iterator[tuple[float, float]]:
    """Yield the left upper corners of boxes in rows, each row in the middle."""
    gap = _GAP if width > _NUMBERED[0] else 6
    most = int((_INNER + gap) // (width + gap))
    for n in range(count):
        row, column = divmod(n, most)
        inside = min(count - row * most, most)
        left = (_WIDTH - inside * width - (inside - 1) * gap) / 2
        yield left + column * (width + gap), top + row * (height + min(gap, 14))


def _facts(node: Data) -> str:
    server = "server not known" if node["server"] is None else node["server"]
    minion = "minion not known" if node["minion"] is None else f"minion {node['minion']}"
    if node["server"] == "missing":
        return "no server"
    kube = {None: "node not known", "-": ""}.get(node["kubernetes"], node["kubernetes"])
    version = f" {node['version']}" if node["version"] and kube == progress.READY else ""
    words = [server if server != "ACTIVE" else "", minion if minion != "minion connected" else "", f"{kube}{version}"]
    return ", ".join(word for word in words if word) or "runs"


def _doing(node: Data) -> str:
    if node["doing"]:
        return ", ".join(step["kind"] for step in node["doing"])
    return "to be converged" if node["converged"] is False and node["minion"] == "connected" else ""


def _about(node: Data) -> str:
    return ": ".join([node["name"], "; ".join([_facts(node), *node["notes"], *node["volumes"]])])


def _member_state(node: Data, data: Data) -> str:
    if node["member"] is None:
        return UNKNOWN if data["etcd"] is None and "etcd" in data["unknown"] else ABSENT
    return {"healthy": GOOD, "learner": BUSY}.get(node["member"], BAD)


def _small(node: Data, x: float, y: float, width: float, height: float) -> Iterator[str]:
    yield f"<g><title>{escape(_about(node))}</title>"
    yield _rect(x, y, width, height, node["state"])
    words = node["name"] if (width, height) == _NAMED else node["name"].rpartition("-")[2]
    yield _text(x + width / 2, y + height / 2 + 5, _short(words, 24), "middle")
    yield "</g>"


def _wire(start: tuple[float, float], end: tuple[float, float], style: str) -> str:
    (x, y), (to_x, to_y) = start, end
    # It turns early, so that it comes straight down beside what is written above a box.
    bend = y + 0.3 * (to_y - y)
    path = f"M{x:.0f} {y:.0f}C{x:.0f} {bend:.0f} {to_x:.0f} {bend:.0f} {to_x:.0f} {to_y:.0f}"
    return f'<path class="{style}" d="{path}"/>'


def _rect(x: float, y: float, width: float, height: float, state: str) -> str:
    fill, line, word = _COLOURS[state]
    box = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="8"'
    return f'<rect {box} fill="{fill}" stroke="{line}" stroke-width="1.5"{_dash(word)}/>'


def _dash(word: str) -> str:
    # Colour alone does not tell everybody.
    return ' stroke-dasharray="5 4"' if word in (_COLOURS[ABSENT][2], _COLOURS[UNKNOWN][2]) else ""


def _pill(x: float, y: float, width: float, height: float, style: tuple[str, str, str]) -> str:
    box = f'x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{height:.0f}" rx="{height / 2:.0f}"'
    return f'<rect {box} fill="{style[0]}" stroke="{style[1]}" stroke-width="1.5"/>'


def _cylinder(x: float, y: float, width: float, height: float, state: str, word: str = "") -> Iterator[str]:
    fill, line, name = _COLOURS.get(state, _GREY)
    radius, middle = width / 2, x + width / 2
    shape = (
        f"M{x:.0f} {y + 6:.0f}v{height - 12:.0f}a{radius:.0f} 6 0 0 0 {width:.0f} 0v-{height - 12:.0f}"
        f"a{radius:.0f} 6 0 0 0 -{width:.0f} 0a{radius:.0f} 6 0 0 0 {width:.0f} 0"
    )
    yield f'<path d="{shape}" fill="{fill}" stroke="{line}" stroke-width="1.2"{_dash(name)}/>'
    if word:
        yield _text(middle, y + height / 2 + 9, word, "small middle")


def _text(x: float, y: float, words: str, style: str = "") -> str:
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:.0f}" y="{y:.0f}"{kind}>{escape(words)}</text>'


def _short(words: str, most: int) -> str:
    first = words.strip().partition("\n")[0]
    return first if len(first) <= most else f"{first[: most - 1]}…"
