"""Addresses of keys and of the form that asks for one."""

from __future__ import annotations

from django.urls import path, re_path

from keyvault.web import (
    adopt,
    batches,
    dependents,
    key_changes,
    key_page,
    keys,
    leases,
    places,
    probes,
    requests_new,
    reveal,
    rotations,
)

urlpatterns = [
    re_path(r"^(?P<address>keys(?:/.*)?(?:\.\.|//).*)$", keys.odd, name="key-odd"),
    path("requests/new/", requests_new.new, name="request-new"),
    path("requests/new/preview/", requests_new.preview, name="request-preview"),
    path("requests/<uuid:request_id>/edit/", requests_new.edit, name="request-edit"),
    path("requests/adopt/", adopt.adopt, name="adopt"),
    path("keys/", keys.keys, name="keys"),
    path("keys/<slug:name>/", keys.key, name="key"),
    *(
        path(f"keys/<slug:name>/{tab}/", keys.key, {"tab": tab}, name=f"key-{tab}")
        for tab in (
            key_page.VERSIONS,
            key_page.LEASES,
            key_page.USAGE,
            key_page.DEPENDENTS,
            key_page.ACCESS,
            key_page.HISTORY,
        )
    ),
    path("leases/<uuid:lease_id>/end/", leases.end, name="lease-end"),
    path("keys/<slug:name>/dependents/new/", dependents.new, name="dependent-new"),
    path(
        "keys/<slug:name>/dependents/<uuid:dependent_id>/end/",
        dependents.end,
        name="dependent-end",
    ),
    path("keys/<slug:name>/places/new/", places.new, name="place-new"),
    path(
        "keys/<slug:name>/places/<uuid:dependent_id>/write/",
        places.write_again,
        name="place-write",
    ),
    path("keys/<slug:name>/dependents/<uuid:dependent_id>/probe/", probes.new, name="probe-new"),
    path(
        "keys/<slug:name>/dependents/<uuid:dependent_id>/probe/end/",
        probes.end,
        name="probe-end",
    ),
    path("keys/<slug:name>/places/<uuid:dependent_id>/remove/", places.remove, name="place-remove"),
    path("keys/<slug:name>/change/", key_changes.change, name="key-change"),
    path("keys/<slug:name>/revoke/", keys.revoke, name="key-revoke"),
    path("keys/<slug:name>/rotate/", rotations.rotate, name="key-rotate"),
    path("rotations/", rotations.rotations, name="rotations"),
    path("rotations/many/", batches.new, name="rotation-many"),
    path("rotations/batches/<uuid:batch_id>/", batches.batch, name="rotation-batch"),
    path("rotations/batches/<uuid:batch_id>/stop/", batches.stop, name="rotation-batch-stop"),
    path("rotations/<uuid:rotation_id>/", rotations.rotation, name="rotation"),
    *(
        path(
            f"rotations/<uuid:rotation_id>/{act}/",
            rotations.decide,
            {"act": act},
            name=f"rotation-{act}",
        )
        for act in ("roll-back", "extend")
    ),
    path("rotations/<uuid:rotation_id>/hurry/", rotations.hurry, name="rotation-hurry"),
    path("rotations/<uuid:rotation_id>/go-on/", rotations.finish, name="rotation-finish"),
    path(
        "rotations/<uuid:rotation_id>/dependents/<int:delivery_id>/confirm/",
        rotations.confirm,
        name="rotation-confirm",
    ),
    path(
        "rotations/<uuid:rotation_id>/dependents/<int:delivery_id>/skip/",
        rotations.excuse,
        name="rotation-excuse",
    ),
    path("keys/<slug:name>/reveal/", keys.ask_reveal, name="key-reveal"),
    path("keys/<slug:name>/versions/<int:number>/reveal/", reveal.reveal, name="reveal"),
]
