"""The forms of a RabbitMQ Connection and of a key there."""

from __future__ import annotations

from keyvault.providers.base import Field

CONFIG = (
    Field(
        "url",
        "Management address",
        help="Such as https://rabbit.internal:15671. The management plug-in must be enabled.",
        names_server=True,
    ),
    Field("user", "Admin user", help="A user with the tag administrator."),
    Field(
        "ca",
        "Authority certificate",
        kind="longtext",
        required=False,
        help="PEM. Leave empty to trust the authorities of the system.",
    ),
    Field(
        "broker",
        "Broker address",
        required=False,
        help="Where programs connect, such as amqps://rabbit.internal:5671. It is handed out with"
        " each key.",
    ),
)
MATERIAL = (Field("password", "Admin password", kind="secret"),)
OPTIONS = (
    Field("vhost", "Virtual host", default="/", help="It exists already."),
    Field(
        "configure",
        "May configure",
        required=False,
        help="A pattern of names of queues and exchanges, such as ^billing\\. Empty: none.",
    ),
    Field("write", "May write", required=False, help="A pattern. Empty: nothing."),
    Field("read", "May read", required=False, help="A pattern. Empty: nothing."),
)
