"""Django settings, read from `KEYVAULT_*` variables; docs/settings.md lists them all.

Every variable may also be given as `NAME_FILE`, a path to read the value
from. A wrong value stops the start with a sentence.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import django_stubs_ext

from keyvault.environment import (
    boolean,
    database,
    directories,
    integer,
    networks,
    queue_server,
    secret,
    text,
    words,
)

django_stubs_ext.monkeypatch()

ROOT = Path(__file__).resolve().parent.parent
DATA_DIR = Path(text("KEYVAULT_DATA_DIR", str(ROOT / ".kv")))
KEYS_DIR = Path(text("KEYVAULT_KEYS_DIR", str(Path.home() / ".config/keyvault/keys")))

PUBLIC_URL = text("KEYVAULT_PUBLIC_URL", "http://localhost:8000").rstrip("/")
PUBLIC_HOST = urlsplit(PUBLIC_URL).hostname or "localhost"
IS_HTTPS = PUBLIC_URL.startswith("https://")
GATEWAY_URL = text("KEYVAULT_GATEWAY_URL", "http://localhost:8001").rstrip("/")
IS_DEMO = boolean("KEYVAULT_DEMO", default=False)
DEBUG = False
SECRET_KEY = secret("KEYVAULT_SECRET_KEY")
ALLOWED_HOSTS = [PUBLIC_HOST, *words("KEYVAULT_ALLOWED_HOSTS", "")]
if PUBLIC_HOST == "localhost":
    ALLOWED_HOSTS += ["127.0.0.1"]

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "guardian",
    "django_otp",
    "csp",
    "approvals",
    "keyvault.apps.KeyvaultConfig",
]
MIDDLEWARE = [
    "keyvault.middleware.RequestContext",
    "keyvault.middleware.Machines",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "keyvault.middleware.BrowserPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "keyvault.arrivals.Bodies",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "keyvault.middleware.SessionRules",
    "keyvault.middleware.SignedInOnly",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "keyvault.domain_errors.DomainErrors",
]
ROOT_URLCONF = "keyvault.urls"
WSGI_APPLICATION = "keyvault.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [ROOT / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["keyvault.templatetags.keyvault"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "keyvault.web.shell.context",
            ],
        },
    }
]

DATABASES = {"default": database("DATABASE_URL")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "keyvault.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "overview"
ANONYMOUS_USER_NAME = None
GUARDIAN_RAISE_403 = False

SESSION_ENGINE = "django.contrib.sessions.backends.db"
SESSION_SERIALIZER = "django.contrib.sessions.serializers.JSONSerializer"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = IS_HTTPS
# Browsers refuse the __Host- prefix on plain http, which only loopback may use.
SESSION_COOKIE_NAME = "__Host-keyvault" if IS_HTTPS else "keyvault"
CSRF_COOKIE_NAME = "__Host-keyvault-csrf" if IS_HTTPS else "keyvault-csrf"
CSRF_FAILURE_VIEW = "keyvault.web.errors.csrf_failure"
CSRF_TRUSTED_ORIGINS = [PUBLIC_URL]
SESSION_IDLE_S = 30 * 60
STEP_UP_S = 300

SECURE_SSL_REDIRECT = IS_HTTPS
SECURE_HSTS_SECONDS = 2 * 365 * 86400 if IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = IS_HTTPS
# With "no-referrer" browsers send `Origin: null` with forms, and the CSRF check must refuse that.
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["default"],
        "report-uri": ["/csp-report/"],
    }
}

STATIC_URL = "/static/"
STATICFILES_DIRS = [ROOT / "static"]
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {"BACKEND": "keyvault.web.storage.HashedStorage"},
}
WHITENOISE_MAX_AGE = 31536000

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500

BROKER_URL = queue_server(secret("KEYVAULT_BROKER_URL"))
KEK = text("KEYVAULT_KEK", f"file:{KEYS_DIR / 'kek'}")
CHECKPOINT_DIR = Path(text("KEYVAULT_CHECKPOINT_DIR", str(DATA_DIR / "checkpoints")))
CHECKPOINT_SECONDS = integer("KEYVAULT_CHECKPOINT_SECONDS", 60, low=1, high=3600)
CHECKPOINT_EVENTS = integer("KEYVAULT_CHECKPOINT_EVENTS", 1000, low=1, high=100_000)
CHECKPOINT_OFFSITE = boolean("KEYVAULT_CHECKPOINT_OFFSITE", default=False)
ROTATION_GRACE_SECONDS = integer("KEYVAULT_ROTATION_GRACE_SECONDS", 86_400, low=5, high=2_592_000)
ROTATION_QUIET_SECONDS = integer("KEYVAULT_ROTATION_QUIET_SECONDS", 300, low=1, high=2_592_000)
ROTATION_INCIDENT_GRACE_SECONDS = integer(
    "KEYVAULT_ROTATION_INCIDENT_GRACE_SECONDS", 900, low=5, high=2_592_000
)
ROTATION_INCIDENT_QUIET_SECONDS = integer(
    "KEYVAULT_ROTATION_INCIDENT_QUIET_SECONDS", 30, low=1, high=2_592_000
)
ROTATION_EXPIRY_DAYS = integer("KEYVAULT_ROTATION_EXPIRY_DAYS", 7, low=1, high=365)
ROTATION_PER_CONNECTION = integer("KEYVAULT_ROTATION_PER_CONNECTION", 10, low=1, high=1000)
ROTATION_BROWNOUT_SECONDS = integer("KEYVAULT_ROTATION_BROWNOUT_SECONDS", 0, low=0, high=86_400)
ROTATION_BROWNOUT_FAILURES = integer("KEYVAULT_ROTATION_BROWNOUT_FAILURES", 1, low=1, high=1_000)
READ_RETENTION_DAYS = integer("KEYVAULT_READ_RETENTION_DAYS", 400, low=7, high=3650)
USAGE_RETENTION_DAYS = integer("KEYVAULT_USAGE_RETENTION_DAYS", 90, low=7, high=3650)
ALLOWED_PLUGINS = words("KEYVAULT_ALLOWED_PLUGINS", "")
EGRESS_SOCKETS = words("KEYVAULT_EGRESS_SOCKETS", "")
ENV_FILE_ROOTS = directories("KEYVAULT_ENV_FILE_ROOTS", "")
TRUSTED_PROXIES = networks("KEYVAULT_TRUSTED_PROXIES", "")
EMAIL_HOST = text("KEYVAULT_SMTP_HOST", "")
EMAIL_PORT = integer("KEYVAULT_SMTP_PORT", 587, low=1, high=65535)
EMAIL_USE_TLS = boolean("KEYVAULT_SMTP_STARTTLS", default=True)
EMAIL_HOST_USER = text("KEYVAULT_SMTP_USER", "")
EMAIL_HOST_PASSWORD = text("KEYVAULT_SMTP_PASSWORD", "")
DEFAULT_FROM_EMAIL = text("KEYVAULT_MAIL_FROM", f"keyvault@{PUBLIC_HOST}")
EMAIL_TIMEOUT = 10
APPROVALS_MAIL = bool(EMAIL_HOST)
METRICS_NETWORKS = networks("KEYVAULT_METRICS_NETWORKS", "127.0.0.0/8 ::1")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "keyvault.logs.Formatter"}},
    "filters": {"refusals": {"()": "keyvault.logs.Refusals"}},
    "handlers": {
        "stderr": {
            "class": "logging.StreamHandler",
            "formatter": "line",
            "filters": ["refusals"],
        }
    },
    "root": {"handlers": ["stderr"], "level": text("KEYVAULT_LOG_LEVEL", "INFO")},
}
