#!/usr/bin/env python3
"""A server of Herald's webhook protocol, to be read, copied and changed.

    server.py [--listen 127.0.0.1:8080] [--token-file F] [--state F.json] [--slow SECONDS]

It keeps what it is told in memory and in a file, and has no cloud: where one
would be called stands "CLOUD". The protocol is ../openapi.yaml; whether a
server of yours speaks it says `herald cloud conformance URL`.
"""
import argparse, hmac, ipaddress, itertools, json, os, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

PROTOCOLS, FAMILIES = ["TCP", "UDP"], ["IPv4", "IPv6"]
NETWORKS = {"IPv4": "198.51.100.0/24", "IPv6": "2001:db8::/64"}
CAPABILITIES = {"loadBalancers": True, "addresses": True, "adoption": True, "protocols": PROTOCOLS, "families": FAMILIES,
                "sourceRanges": True, "proxyProtocol": True, "httpHealthCheck": True, "delivery": "nodePort"}
# What is echoed is what has been done: fields that are not listed here are not known, so not kept.
SPEC = ["name", "title", "type", "location", "network", "subnet", "usePrivateIP", "internal", "families", "listeners",
        "targets", "algorithm", "sourceRanges", "idleTimeoutSeconds", "address"]
LISTENER = ["protocol", "port", "nodePort", "proxyProtocol", "healthCheck"]
HEALTH = ["protocol", "port", "path", "intervalSeconds", "timeoutSeconds", "retries"]
TARGET = ["node", "instance", "address"]
OWNER = ["cluster", "uid", "namespace", "name"]


class Refusal(Exception):
    """An answer that is an error: status, code for programs, message for people."""


def known(fields, value):
    if not isinstance(value, dict):
        raise Refusal(422, "invalid", "an object is missing, or is something else")
    return {k: value[k] for k in fields if k in value}


def owner_of(body):
    owner = known(OWNER, body.get("owner"))
    if not owner.get("cluster") or not owner.get("uid"):
        raise Refusal(422, "invalid", "owner has no cluster or no uid")
    return owner


class Store:
    """All resources of both kinds, by their IDs; "key" is the owner of the path."""

    def __init__(self, path, slow):
        self.path, self.slow, self.lock = path, slow, threading.Lock()  # one request at a time: two PUTs make one
        self.all = json.load(open(path)) if path and os.path.exists(path) else {"loadbalancers": {}, "addresses": {}, "last": 0}

    def save(self):
        if self.path:  # by another name first: a crash leaves the old one or the new one
            with open(self.path + ".new", "w") as f:
                json.dump(self.all, f, indent=1)
            os.replace(self.path + ".new", self.path)

    def by_key(self, kind, key):
        return next((r for r in self.all[kind].values() if r.get("key") == key), None)

    def by_id(self, kind, id):
        if id not in self.all[kind]:
            raise Refusal(404, "not_found", f"there is none with the id {id}")
        return self.all[kind][id]

    def make(self, kind, key, owner, **more):
        self.all["last"] += 1
        id = f"{kind[:2]}-{self.all['last']}"
        r = {"id": id, "key": key, "owner": owner, "ready": 0, "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **more}
        self.all[kind][id] = r
        return r

    def free_address(self, family):
        used = {a for r in self.all["loadbalancers"].values() for a in r["addresses"]}
        used |= {r["address"] for r in self.all["addresses"].values()}
        for a in itertools.islice(ipaddress.ip_network(NETWORKS[family]).hosts(), 1, 5000):
            if str(a) not in used:
                return str(a)
        raise Refusal(422, "quota", f"no {family} address is free")

    def put_loadbalancers(self, key, body):
        owner, spec = owner_of(body), known(SPEC, body.get("spec"))
        spec["targets"] = [known(TARGET, t) for t in spec.get("targets") or []]
        spec["listeners"] = [dict(known(LISTENER, l), healthCheck=known(HEALTH, l.get("healthCheck"))) for l in spec.get("listeners") or []]
        if not spec.get("families") or any(f not in FAMILIES for f in spec["families"]):
            raise Refusal(422, "invalid", f"families are not of {FAMILIES}")
        if any(l.get("protocol") not in PROTOCOLS for l in spec["listeners"]):
            raise Refusal(422, "unsupported_protocol", f"use {PROTOCOLS}")
        r = self.by_key("loadbalancers", key) or self.make("loadbalancers", key, owner, addresses=[])
        # CLOUD: make or change it here; where that takes long, in a thread, and "ready" once it is done.
        have = {"IPv4" if "." in a else "IPv6": a for a in r["addresses"]}
        r["addresses"] = [have.get(f) or self.free_address(f) for f in spec["families"]]
        if spec != r.get("want"):
            r.update(want=spec, ready=time.time() + self.slow, name=spec.get("name", ""))
        return r

    def put_addresses(self, key, body):
        owner, family, location = owner_of(body), body.get("family"), body.get("location", "")
        if family not in FAMILIES:
            raise Refusal(422, "invalid", f"family is not of {FAMILIES}")
        r = self.by_key("addresses", key)
        if r is None:  # CLOUD: reserve one
            r = self.make("addresses", key, owner, name=body.get("name", ""), family=family, location=location, address=self.free_address(family))
        if (r["family"], r["location"]) != (family, location):
            raise Refusal(422, "immutable", "family and location of an address cannot be changed")
        return r

    def assign(self, id, body):
        r = self.by_id("addresses", id)
        if not body.get("instance"):
            raise Refusal(422, "invalid", "instance is missing")
        if r.get("instance") != body["instance"]:  # CLOUD: one call moves it
            self.view("addresses", r)  # where it is by now, if it was moving
            r.update(instance=body["instance"], ready=time.time() + self.slow)
        return r

    def adopt(self, id, body):
        r, owner = self.by_id("loadbalancers", id), owner_of(body)
        same = lambda a, b: ((a or {}).get("cluster"), (a or {}).get("uid")) == ((b or {}).get("cluster"), (b or {}).get("uid"))
        if not same(r["owner"], owner):
            if not same(r["owner"], body.get("previous")) or self.by_key("loadbalancers", body["key"]):
                raise Refusal(409, "conflict", f"{id} has another owner, or the owner has another load balancer")
            # What was made for one owner and goes to the next was not there before its owners.
            r.update(owner=owner, key=body["key"], adopted=r["owner"] is None or r.get("adopted", False))
        return r

    def delete(self, kind, key, keep):
        r = self.by_key(kind, key)
        if r is None:
            raise Refusal(404, "not_found", "its owner has none")
        if keep:
            r.update(owner=None, key=None)
        else:  # CLOUD: delete it
            del self.all[kind][r["id"]]

    def list(self, kind, q):
        owner = lambda r: r["owner"] or {}
        hits = [r for r in self.all[kind].values()
                if q.get("cluster") in (None, owner(r).get("cluster")) and q.get("uid") in (None, owner(r).get("uid"))
                and q.get("ref") in (None, r["id"], r.get("name"), r.get("address"), *r.get("addresses", []))]
        limit, start = min(500, int(q.get("limit", 100))), int(q.get("page") or 0)
        more = {"next": str(start + limit)} if start + limit < len(hits) else {}
        return {"items": [self.view(kind, r) for r in hits[start:start + limit]], **more}

    def view(self, kind, r):
        """What clients are shown: nothing of it before it is so."""
        pending = time.time() < r["ready"]
        if not pending:
            r.update(spec=r.get("want"), was=r.get("instance"))
        out = {k: v for k, v in r.items() if k not in ("key", "want", "was", "ready", "instance") and v is not None}
        out["state"] = "pending" if pending else "ready"
        if pending:
            out["retryAfterSeconds"] = max(1, round(r["ready"] - time.time()))
        if r.get("was"):
            out["assignedTo"] = r["was"]
        return out


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one packet, or clients wait 40 ms for the second

    def answer(self, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        if data:
            self.send_header("Content-Type", "application/json")
        if status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def body(self):
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        except ValueError as e:
            raise Refusal(400, "invalid_json", f"the request is no JSON: {e}")
        if not isinstance(body, dict):
            raise Refusal(400, "invalid_json", "the request is no object")
        return body

    def route(self, body):
        url = urlsplit(self.path)
        q, parts = dict(parse_qsl(url.query)), [unquote(p) for p in url.path.strip("/").split("/")]
        store, method = self.server.store, self.command
        match (method, *parts):
            case ("GET", "v1"):
                return 200, {"version": "v1", "name": "Herald's sample", "capabilities": CAPABILITIES}
            case ("GET", "v1", ("loadbalancers" | "addresses") as kind):
                return 200, store.list(kind, q)
            case ("GET", "v1", ("loadbalancers" | "addresses") as kind, key):
                r = store.by_key(kind, key)
                if r is None:
                    raise Refusal(404, "not_found", "its owner has none")
            case ("PUT", "v1", ("loadbalancers" | "addresses") as kind, key):
                r = getattr(store, "put_" + kind)(key, body)
            case ("POST", "v1", "addresses" as kind, id, "assign"):
                r = store.assign(id, body)
            case ("POST", "v1", "loadbalancers" as kind, id, "adopt"):
                r = store.adopt(id, body)
            case ("DELETE", "v1", ("loadbalancers" | "addresses") as kind, key):
                store.delete(kind, key, q.get("keep") == "true")
                return 204, None
            case _:
                raise Refusal(404, "not_found", "there is no such path")
        view = store.view(kind, r)
        return (202 if view["state"] == "pending" and method != "GET" and parts[-1] != "adopt" else 200), view

    def serve(self):
        try:
            body = self.body()  # first, for what is not read would be taken for the next request
            if self.server.token and not hmac.compare_digest(self.headers.get("Authorization", ""), "Bearer " + self.server.token):
                raise Refusal(401, "unauthorized", "the token is not the right one")
            with self.server.store.lock:
                try:
                    result = self.route(body)
                finally:
                    self.server.store.save()
            self.answer(*result)
        except Refusal as e:
            status, code, message = e.args
            self.answer(status, {"code": code, "message": message})
        except Exception as e:  # what is not thought of may succeed later
            self.answer(500, {"code": "internal", "message": f"{type(e).__name__}: {e}"})

    do_GET = do_PUT = do_POST = do_DELETE = serve

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--listen", default="127.0.0.1:8080")
    p.add_argument("--token-file")
    p.add_argument("--state", help="JSON file to keep everything in")
    p.add_argument("--slow", type=float, default=0, help="seconds that a change takes, as in a real cloud")
    a = p.parse_args()
    host, port = a.listen.rsplit(":", 1)
    server = ThreadingHTTPServer((host, int(port)), Handler)
    server.store = Store(a.state, a.slow)
    server.token = open(a.token_file).read().strip() if a.token_file else ""
    print("listening on http://%s:%d" % server.server_address[:2], flush=True)
    server.serve_forever()
