"""A fake of the part of a Kubernetes API server that a Secret and a Deployment need.

It has merge patches, resourceVersion and its conflicts, dry runs, immutable Secrets, managers of
fields, rights by verb and resource, and the status of a Deployment.
"""

from __future__ import annotations

import copy
import json
import secrets
from base64 import b64decode, b64encode
from typing import Any

from tests.contracts.vendors.server import Answer, Asked, Refused, Vendor

NAMESPACE, SECRET, DEPLOYMENT = "shop", "orders", "api"
_MERGE = "application/merge-patch+json"
_PATHS = (
    r"/api/v1/namespaces/([a-z0-9.-]+)/(secrets)",
    r"/apis/apps/v1/namespaces/([a-z0-9.-]+)/(deployments)",
)
_KINDS = {"secrets": ("v1", "Secret"), "deployments": ("apps/v1", "Deployment")}
_REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    415: "UnsupportedMediaType",
    422: "Invalid",
}
Key = tuple[str, str, str]


class KubernetesServer(Vendor):
    """Objects by namespace, resource and name."""

    routes = (
        *(("POST", path, "create") for path in _PATHS),
        *(("GET", rf"{path}/([a-z0-9.-]+)", "get") for path in _PATHS),
        *(("PATCH", rf"{path}/([a-z0-9.-]+)", "patch") for path in _PATHS),
        *(("DELETE", rf"{path}/([a-z0-9.-]+)", "delete") for path in _PATHS),
        ("POST", r"/apis/authorization\.k8s\.io/v1/selfsubjectaccessreviews", "review"),
    )

    def __init__(self) -> None:
        super().__init__()
        self.token = secrets.token_urlsafe(24)
        self.objects: dict[Key, dict[str, Any]] = {}
        self.revision = 100
        self.denied: set[tuple[str, str]] = set()
        self.before_patch: list[Any] = []

    def refusal(self, refused: Refused) -> Any:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": refused.message,
            "reason": _REASONS.get(refused.status, "InternalError"),
            "code": refused.status,
        }

    def add_secret(self, name: str = SECRET, data: dict[str, str] | None = None) -> None:
        """Create a Secret as an operator does before keyvault comes."""
        coded = {key: b64encode(text.encode()).decode() for key, text in (data or {}).items()}
        self._store(
            (NAMESPACE, "secrets", name),
            {"metadata": {}, "type": "Opaque", **({"data": coded} if coded else {})},
            "kubectl-create",
        )

    def add_deployment(self, name: str = DEPLOYMENT, replicas: int = 3) -> None:
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": []}}
        selector = {"matchLabels": {"app": name}}
        spec = {"replicas": replicas, "selector": selector, "template": template}
        self._store(
            (NAMESPACE, "deployments", name), {"metadata": {}, "spec": spec}, "kubectl-create"
        )
        self.settle()

    def secret(self, name: str = SECRET) -> dict[str, Any]:
        return self.objects[NAMESPACE, "secrets", name]

    def deployment(self, name: str = DEPLOYMENT) -> dict[str, Any]:
        return self.objects[NAMESPACE, "deployments", name]

    def edit(self, manager: str, patch: dict[str, Any], name: str = SECRET) -> None:
        """Change a Secret as somebody else, by a client that calls itself `manager`."""
        self._change((NAMESPACE, "secrets", name), patch, manager)

    # What the bench asks of a place.

    def consumed(self) -> bytes | None:
        found = (self.secret().get("data") or {}).get("API_KEY")
        return b64decode(found) if found is not None else None

    def state(self) -> object:
        return copy.deepcopy(self.objects)

    def overwrite(self) -> None:
        coded = b64encode(f"typed-{self.revision}".encode()).decode()
        self.edit("kubectl-edit", {"data": {"API_KEY": coded}})

    def settle(self) -> None:
        """Let the controller replace all pods of every Deployment."""
        for key, found in self.objects.items():
            if key[1] == "deployments":
                self.roll_out(found, found["spec"]["replicas"])

    def roll_out(self, deployment: dict[str, Any], updated: int, **more: Any) -> None:
        """Set the status as the controller does when `updated` pods are new."""
        wanted = deployment["spec"]["replicas"]
        deployment["status"] = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": wanted,
            "updatedReplicas": updated,
            "availableReplicas": wanted,
            **more,
        }

    # The API.

    def answer(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {self.token}":
            return Answer(401, self.refusal(Refused(401, "", "Unauthorized")))
        return super().answer(asked)

    def get(self, _: Asked, namespace: str, resource: str, name: str) -> Any:
        return self._found("get", (namespace, resource, name))

    def create(self, asked: Asked, namespace: str, resource: str) -> Any:
        self._require("create", resource)
        key = (namespace, resource, asked.body["metadata"]["name"])
        if key in self.objects:
            raise Refused(409, "AlreadyExists", f'{resource} "{key[2]}" already exists')
        return Answer(201, self._store(key, asked.body, self._manager(asked)))

    def delete(self, _: Asked, namespace: str, resource: str, name: str) -> Any:
        self._found("delete", (namespace, resource, name))
        del self.objects[namespace, resource, name]
        return {"kind": "Status", "apiVersion": "v1", "status": "Success"}

    def patch(self, asked: Asked, namespace: str, resource: str, name: str) -> Any:
        if asked.headers.get("content-type") != _MERGE:
            raise Refused(415, "", "the body of the request was in an unknown format")
        key = (namespace, resource, name)
        self._found("patch", key)
        while self.before_patch:
            self.before_patch.pop(0)()
        return self._change(
            key, asked.body, self._manager(asked), is_trial=asked.query.get("dryRun") == "All"
        )

    def review(self, asked: Asked) -> Any:
        wanted = asked.body["spec"]["resourceAttributes"]
        allowed = (wanted["verb"], wanted["resource"]) not in self.denied
        return Answer(201, {**asked.body, "status": {"allowed": allowed}})

    def _found(self, verb: str, key: Key) -> dict[str, Any]:
        self._require(verb, key[1])
        if key not in self.objects:
            raise Refused(404, "NotFound", f'{key[1]} "{key[2]}" not found')
        return self.objects[key]

    def _require(self, verb: str, resource: str) -> None:
        if (verb, resource) in self.denied:
            raise Refused(403, "", f'cannot {verb} resource "{resource}"')

    def _manager(self, asked: Asked) -> str:
        agent = asked.headers.get("user-agent", "unknown").partition("/")[0]
        return asked.query.get("fieldManager") or agent

    def _store(self, key: Key, body: dict[str, Any], manager: str) -> dict[str, Any]:
        version, kind = _KINDS[key[1]]
        made = {"apiVersion": version, "kind": kind, **copy.deepcopy(body)}
        made["metadata"] |= {"namespace": key[0], "name": key[2], "uid": secrets.token_hex(8)}
        if key[1] == "deployments":
            made["metadata"]["generation"] = 1
        made["metadata"]["managedFields"] = _managed([], {}, _leaves(made), manager, version)
        return self._keep(key, made)

    def _keep(self, key: Key, made: dict[str, Any]) -> dict[str, Any]:
        self.revision += 1
        made["metadata"]["resourceVersion"] = str(self.revision)
        self.objects[key] = made
        return made

    def _change(
        self, key: Key, patch: dict[str, Any], manager: str, *, is_trial: bool = False
    ) -> dict[str, Any]:
        old = self.objects[key]
        known = (patch.get("metadata") or {}).get("resourceVersion")
        if known is not None and known != old["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict", "the object has been modified")
        new = _merged(copy.deepcopy(old), patch)
        if old.get("immutable") and new.get("data") != old.get("data"):
            raise Refused(422, "Invalid", "field is immutable when `immutable` is set")
        if new == old:
            return old
        if new.get("spec") != old.get("spec"):
            new["metadata"]["generation"] += 1
        new["metadata"]["managedFields"] = _managed(
            old["metadata"]["managedFields"], _leaves(old), _leaves(new), manager, old["apiVersion"]
        )
        return new if is_trial else self._keep(key, new)


def _merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    found = target if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = _merged(found.get(name), value)
    return found


Leaves = dict[tuple[str, str], Any]


def _leaves(made: dict[str, Any]) -> Leaves:
    """Return the fields whose managers are kept: entries and annotations."""
    found: Leaves = {("f:data", name): text for name, text in (made.get("data") or {}).items()}
    for name, text in (made["metadata"].get("annotations") or {}).items():
        found["f:metadata", name] = text
    return found


def _managed(
    rows: list[dict[str, Any]], old: Leaves, new: Leaves, manager: str, version: str
) -> list[dict[str, Any]]:
    """Give every changed field to whoever changed it, and take it from everybody else."""
    held = {row["manager"]: set(map(tuple, _paths(row["fieldsV1"]))) for row in rows}
    changed = {path for path in {*old, *new} if old.get(path) != new.get(path)}
    held = {name: paths - changed for name, paths in held.items()}
    held.setdefault(manager, set()).update(changed & set(new))
    return [
        {
            "manager": name,
            "operation": "Update",
            "apiVersion": version,
            "fieldsType": "FieldsV1",
            "fieldsV1": _fields(paths),
        }
        for name, paths in held.items()
        if paths
    ]


def _fields(paths: set[tuple[str, str]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for root, name in sorted(paths):
        if root == "f:metadata":
            notes = fields.setdefault(root, {}).setdefault("f:annotations", {".": {}})
            notes[f"f:{name}"] = {}
        else:
            fields.setdefault(root, {".": {}})[f"f:{name}"] = {}
    return json.loads(json.dumps(fields))


def _paths(fields: dict[str, Any]) -> list[tuple[str, str]]:
    notes = (fields.get("f:metadata") or {}).get("f:annotations") or {}
    pairs = [("f:data", name) for name in fields.get("f:data") or {}]
    pairs += [("f:metadata", name) for name in notes]
    return [(root, name.removeprefix("f:")) for root, name in pairs if name != "."]
