"""The WSGI application that the console's server runs."""

import os

from django.core.wsgi import get_wsgi_application

from keyvault.launcher.children import die_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "keyvault.settings")
die_with_parent()
application = get_wsgi_application()
