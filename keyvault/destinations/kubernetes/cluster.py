"""The few calls to an API server that a Secret and its Deployment need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from keyvault.destinations.base import Context, NotFound
from keyvault.destinations.kubernetes.objects import MANAGER, Object
from keyvault.plugins.json_api import JsonApi, header_text

if TYPE_CHECKING:
    from keyvault.destinations.kubernetes.objects import Place

_MERGE = "application/merge-patch+json"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
SECRETS, DEPLOYMENTS = "secrets", "deployments"
_GROUPS = {SECRETS: "", DEPLOYMENTS: "apps"}


@dataclass(frozen=True, slots=True)
class Cluster:
    """An API server, reached with the service account's token. Errors are those of JsonApi."""

    ctx: Context
    place: Place

    def secret(self) -> Object:
        """Return the Secret. Raises NotFound."""
        try:
            return self._api().read(self._path(SECRETS))
        except NotFound:
            name = f"{self.place.namespace}/{self.place.secret}"
            raise NotFound(f"There is no Secret {name}; create an empty one.") from None

    def deployment(self) -> Object:
        """Return the Deployment. Raises NotFound."""
        try:
            return self._api().read(self._path(DEPLOYMENTS))
        except NotFound:
            name = f"{self.place.namespace}/{self.place.deployment}"
            raise NotFound(f"There is no Deployment {name}.") from None

    def patch_secret(self, patch: Object) -> Object:
        """Change the Secret and return it. Raises Conflict when it is no longer as it was found."""
        return self._patch(SECRETS, patch)

    def patch_deployment(self, patch: Object, *, is_trial: bool = False) -> None:
        """Change the Deployment; a trial is judged in full by the server and kept nowhere."""
        self._patch(DEPLOYMENTS, patch, "&dryRun=All" if is_trial else "")

    def may_patch(self, resource: str) -> bool:
        """Say whether the token may change the Secret or the Deployment, as the server judges."""
        attributes = {
            "namespace": self.place.namespace,
            "verb": "patch",
            "group": _GROUPS[resource],
            "resource": resource,
            "name": self._name(resource),
        }
        asked = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        answer = self._api().change("POST", _REVIEWS, asked)
        return (answer.get("status") or {}).get("allowed") is True

    def _patch(self, resource: str, patch: Object, more: str = "") -> Object:
        path = f"{self._path(resource)}?fieldManager={MANAGER}{more}"
        return self._api(_MERGE).change("PATCH", path, patch)

    def _name(self, resource: str) -> str:
        return self.place.secret if resource == SECRETS else self.place.deployment

    def _path(self, resource: str) -> str:
        root = "/api/v1" if resource == SECRETS else "/apis/apps/v1"
        return f"{root}/namespaces/{self.place.namespace}/{resource}/{self._name(resource)}"

    def _api(self, content_type: str = "application/json") -> JsonApi:
        token = header_text(self.ctx.admin.get("token"), "service account's token")
        headers = {
            "authorization": f"Bearer {token}",
            "accept": "application/json",
            "content-type": content_type,
        }
        config = self.ctx.config
        return JsonApi(self.ctx, str(config["url"]), headers, ca=str(config.get("ca") or ""))
