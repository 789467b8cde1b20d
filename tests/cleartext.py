"""Requests over plain HTTP.

What httpx makes by itself reads every certificate authority of the machine, for each
request anew, and takes 20 ms of a processor for it: longer than most of what is asked here.
"""

from __future__ import annotations

import ssl
from functools import partial

import httpx

_TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Client = partial(httpx.Client, verify=_TRUSTS_NOBODY)
request = partial(httpx.request, verify=_TRUSTS_NOBODY)
get = partial(request, "GET")
post = partial(request, "POST")
