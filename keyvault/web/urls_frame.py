"""Addresses of the frame: overview, system, search, the poll and the policy reports."""

from __future__ import annotations

from django.urls import path

from keyvault.web import csp, live, overview, recoveries, search, system

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("search/", search.search, name="search"),
    path("system/", system.system, name="system"),
    path("system/jobs/<int:job_id>/resume/", system.resume, name="job-resume"),
    path("system/recovery/<uuid:person_id>/cancel/", recoveries.cancel, name="recovery-cancel"),
    path("live/", live.live, name="live"),
    path("csp-report/", csp.receive, name="csp-report"),
]
