"""All settings, read once from the environment; `docs/settings.md` explains each for the operator.

There is one file for every environment. The defaults serve the embedded site: SQLite, Celery's
filesystem broker and mails as files, all under `var/`, answering on this machine only.
"""

from pathlib import Path
from typing import Any, Final

from csp.constants import NONCE, SELF
from django.utils.translation import gettext_lazy as _

from marketplace.databases import database_options
from marketplace.env import check_payments, env_bool, env_choice, env_int, env_list, env_pairs, env_secret, env_str
from marketplace.logs import logging_options
from marketplace.operator_pages import OPERATOR_PAGES
from marketplace.rest_documentation import REST_FRAMEWORK_OPTIONS, rest_documentation
from marketplace.schedule import BEAT_SCHEDULE, broker_options

BASE_DIR: Final = Path(__file__).resolve().parent.parent

# Where all state of the embedded site lives: database, secrets, mails, broker, logs. Back this up.
VAR_DIR: Final = Path(env_str("VAR_DIR", default=str(BASE_DIR / "var"))).resolve()

# ---------------------------------------------------------------- Site

# Where `manage.py serve` listens. HOST=0.0.0.0 takes calls from other machines: set SITE_URL, too, and put an HTTPS proxy in front.
HOST: Final = env_str("HOST", default="127.0.0.1")
PORT: Final = env_int("PORT", default=8000, minimum=1, maximum=65535)
# The address people reach the site under; links in mails, errors and snippets start with it.
SITE_URL: Final = env_str("SITE_URL", default=f"http://127.0.0.1:{PORT}").rstrip("/")
SITE_IS_HTTPS: Final = SITE_URL.startswith("https://")
SECRET_KEY = env_secret("SECRET_KEY", file=VAR_DIR / "secrets" / "secret_key")
DEBUG = env_bool("DEBUG", default=False)
ALLOWED_HOSTS = env_list("ALLOWED_HOSTS", default=("127.0.0.1", "localhost", "[::1]", SITE_URL.split("://")[-1].split(":")[0]))
# Proxies whose X-Forwarded-For is believed, as addresses; none by default.
TRUSTED_PROXIES: Final = env_list("TRUSTED_PROXIES")
WSGI_APPLICATION = "marketplace.wsgi.application"
ROOT_URLCONF = "marketplace.urls"

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "csp",
    "allauth",
    "allauth.account",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "billing",
    "marketplace",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "marketplace.admin.policy.OperatorPolicy",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
]

TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "marketplace.web.context.site",
            ],
            "builtins": ["marketplace.web.tags"],  # Icons, and how money and times are written.
        },
    },
]

# ---------------------------------------------------------------- Database

# postgresql://user:password@host/name, or sqlite:////absolute/path.
DATABASE_URL: Final = env_str("DATABASE_URL", default=f"sqlite:///{VAR_DIR / 'farebox.sqlite3'}")
DATABASES: dict[str, Any] = database_options(DATABASE_URL)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# ---------------------------------------------------------------- People

AUTH_USER_MODEL = "marketplace.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "dashboard"
ACCOUNT_ADAPTER = "marketplace.web.accounts.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "mandatory"
ACCOUNT_CONFIRM_EMAIL_ON_GET = False
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
# Sign-ups per address and hour, logins per minute: enough for an office, too few for a script.
ACCOUNT_RATE_LIMITS = {"signup": "20/h/ip", "login": "30/m/ip", "login_failed": "10/m/ip,5/5m/key"}

# What new organizations pay in: usd, eur or cny. Those that exist keep theirs.
CURRENCY: Final = env_choice("CURRENCY", default="usd", choices=("usd", "eur", "cny"))
# Days that a price which can be dearer is announced before. More protects customers; less lets providers follow their costs.
PRICE_NOTICE_DAYS: Final = env_int("PRICE_NOTICE_DAYS", default=30, minimum=0, maximum=366)
# Hours of a new month that a plan goes on while its fee cannot be paid. More forgives customers longer; 0 ends it at once.
PLAN_GRACE_HOURS: Final = env_int("PLAN_GRACE_HOURS", default=72, minimum=0, maximum=600)
# Free credit for each verified e-mail address, in cents; 0 gives none. Unspent, it leaves after so many days; 0: never.
FREE_CREDIT_CENTS: Final = env_int("FREE_CREDIT_CENTS", default=500, minimum=0)
FREE_CREDIT_DAYS: Final = env_int("FREE_CREDIT_DAYS", default=0, minimum=0, maximum=3660)
# All free credit this site may ever give away, in cents: what a flood of sign-ups can cost.
FREE_CREDIT_POOL_CENTS: Final = env_int("FREE_CREDIT_POOL_CENTS", default=1_000_000, minimum=0)

# ---------------------------------------------------------------- Payments

# Who collects the money: "stripe" with STRIPE_API_KEY, "fake" with STRIPE=fake, else nobody ("offline").
# The fake makes payments out of nothing, for whoever can reach it: it is refused on a site that others can.
STRIPE: Final = env_choice("STRIPE", default="", choices=("", "fake"))
STRIPE_API_KEY: Final = "sk_test_fake" if STRIPE == "fake" else env_str("STRIPE_API_KEY", default="")
PAYMENTS: Final = "fake" if STRIPE == "fake" else "stripe" if STRIPE_API_KEY else "offline"
# What webhooks are signed with: `whsec_...`, as Stripe's dashboard or `stripe listen` shows it.
STRIPE_WEBHOOK_SECRET: Final = (
    env_secret("STRIPE_WEBHOOK_SECRET", file=VAR_DIR / "secrets" / "fake_stripe_webhook")
    if STRIPE == "fake"
    else env_str("STRIPE_WEBHOOK_SECRET", default="")
)
# The secret of the second endpoint, which hears of connected accounts (`we_...` for "Connected accounts"); empty: the same.
STRIPE_CONNECT_WEBHOOK_SECRET: Final = env_str("STRIPE_CONNECT_WEBHOOK_SECRET", default="")
# The secret of the event destination that is sent thin events, which tell what Stripe's meters could not count; empty: one of the others.
STRIPE_THIN_WEBHOOK_SECRET: Final = env_str("STRIPE_THIN_WEBHOOK_SECRET", default="")
# Stripe Billing Meters that are told of usage, as charge=EVENT_NAME,calls=EVENT_NAME. Each costs a request an hour for each account that calls.
STRIPE_METERS: Final = env_pairs("STRIPE_METERS", keys=("charge", "calls"))
# Longest wait for one answer of Stripe's, in seconds; each call is tried three times. More holds a page's thread longer.
STRIPE_TIMEOUT_S: Final = env_int("STRIPE_TIMEOUT_S", default=10, minimum=1, maximum=80)
# Where the fake listens, on this machine only.
STRIPE_FAKE_PORT: Final = env_int("STRIPE_FAKE_PORT", default=PORT + 1 if PORT < 65535 else 1024, minimum=1, maximum=65535)
STRIPE_FAKE_URL: Final = f"http://127.0.0.1:{STRIPE_FAKE_PORT}" if STRIPE == "fake" else ""
check_payments(payments=PAYMENTS, host=HOST, site_url=SITE_URL, webhook_secret=STRIPE_WEBHOOK_SECRET)
# Where the customer's browser is sent to pay and to manage cards.
PAYMENT_PAGES: Final[dict[str, list[str]]] = {
    "offline": [],
    "fake": [STRIPE_FAKE_URL],
    "stripe": ["https://checkout.stripe.com", "https://invoice.stripe.com", "https://billing.stripe.com", "https://connect.stripe.com"],
}
# Smallest and largest top-up, in cents of the account's currency. Small ones are eaten by the card fee; large ones are what a stolen card can cost.
TOP_UP_MIN_CENTS: Final = env_int("TOP_UP_MIN_CENTS", default=500, minimum=50)
TOP_UP_MAX_CENTS: Final = env_int("TOP_UP_MAX_CENTS", default=100_000, minimum=TOP_UP_MIN_CENTS, maximum=99_999_999)

# Days that an invoice of an account with a credit line may wait, and then until its calls are refused.
INVOICE_DUE_DAYS: Final = env_int("INVOICE_DUE_DAYS", default=14, minimum=1, maximum=180)
DUNNING_GRACE_DAYS: Final = env_int("DUNNING_GRACE_DAYS", default=7, minimum=0, maximum=180)
# Whether Stripe Tax computes the tax of each closed invoice where the customer lives, instead of a stated rate.
STRIPE_TAX: Final = env_bool("STRIPE_TAX", default=False)
# The tax that prices include, in hundredths of a percent of the net amount (1900 is 19 %), and who sells, as invoices print both.
TAX_RATE_BASIS_POINTS: Final = env_int("TAX_RATE_BASIS_POINTS", default=0, minimum=0, maximum=10_000)
TAX_NAME: Final = env_str("TAX_NAME", default="VAT")
INVOICE_SELLER_NAME: Final = env_str("INVOICE_SELLER_NAME", default="Farebox")
INVOICE_SELLER_ADDRESS: Final = env_str("INVOICE_SELLER_ADDRESS", default="")  # Lines, with ";" between them.
INVOICE_SELLER_TAX_ID: Final = env_str("INVOICE_SELLER_TAX_ID", default="")

# ---------------------------------------------------------------- Paying providers out

# Where providers of models may live, as two letters each; the first is offered first. Which ones Stripe can pay depends on your own country.
PAYOUT_COUNTRIES: Final = [country.upper() for country in env_list("PAYOUT_COUNTRIES", default=("US",))]

# What the site keeps of a provider's charges, in hundredths of a percent: frozen for each model when it first goes live.
PLATFORM_FEE_BASIS_POINTS: Final = env_int("PLATFORM_FEE_BASIS_POINTS", default=1_500, minimum=0, maximum=10_000)

# How often providers are sent what they are owed: weekly, monthly, or off (by the operator's button alone).
PAYOUT_INTERVAL: Final = env_choice("PAYOUT_INTERVAL", default="weekly", choices=("weekly", "monthly", "off"))
# Days that a share waits before it is sent: a refund in that time costs nobody anything. More protects you, less pays providers sooner.
PAYOUT_HOLD_DAYS: Final = env_int("PAYOUT_HOLD_DAYS", default=14, minimum=0, maximum=365)
# Least that is sent, in cents; smaller balances wait.
PAYOUT_MIN_CENTS: Final = env_int("PAYOUT_MIN_CENTS", default=1_000, minimum=1)
# What is kept back against disputes, which come months later: so many percent of what the last so many days brought.
PAYOUT_RESERVE_PERCENT: Final = env_int("PAYOUT_RESERVE_PERCENT", default=10, minimum=0, maximum=100)
PAYOUT_RESERVE_DAYS: Final = env_int("PAYOUT_RESERVE_DAYS", default=90, minimum=0, maximum=730)
# Whether shares that are taken back after they were sent are asked back from Stripe; no: they are taken from the next payouts only.
PAYOUT_REVERSE_DEBTS: Final = env_bool("PAYOUT_REVERSE_DEBTS", default=True)

# Whether the calls that a lost dispute had paid for are refunded, which takes the providers' shares of them back; no: the customer
# owes them, and the shares are yours to bear.
LOST_DISPUTES_REFUND_CALLS: Final = env_bool("LOST_DISPUTES_REFUND_CALLS", default=True)

# ---------------------------------------------------------------- Mail

# smtp://user:password@host:587?tls=1; without it mails are files in var/mail, which the
# sign-up page offers to a browser on this machine.
MAIL_DIR: Final = VAR_DIR / "mail"
MAIL_IS_FILES: Final = not env_str("SMTP_HOST", default="")
EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend" if MAIL_IS_FILES else "django.core.mail.backends.smtp.EmailBackend"
EMAIL_FILE_PATH = str(MAIL_DIR)
EMAIL_HOST = env_str("SMTP_HOST", default="localhost")
EMAIL_PORT = env_int("SMTP_PORT", default=587, minimum=1, maximum=65535)
EMAIL_HOST_USER = env_str("SMTP_USER", default="")
EMAIL_HOST_PASSWORD = env_str("SMTP_PASSWORD", default="")
EMAIL_USE_TLS = env_bool("SMTP_TLS", default=True)
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env_str("MAIL_FROM", default="Farebox <farebox@localhost>")

# ---------------------------------------------------------------- Keys and the metered call

# Secret of the HMAC that keys are stored under. Without it no key can be checked: back it up.
KEY_PEPPER: Final = env_secret("KEY_PEPPER", file=VAR_DIR / "secrets" / "key_pepper")
# What receipts are signed with is derived from this text. Changed, new receipts have a new key; the old ones stay valid.
RECEIPT_KEY: Final = env_secret("RECEIPT_KEY", file=VAR_DIR / "secrets" / "receipt_key")
KEY_PEPPER_VERSION: Final = env_int("KEY_PEPPER_VERSION", default=1, minimum=1, maximum=32767)
# Live keys an organization may hold at once.
MAX_KEYS: Final = env_int("MAX_KEYS", default=50, minimum=1)
# Calls per minute of an organization, over all its keys, and of one test key.
ORGANIZATION_RATE_PER_MINUTE: Final = env_int("ORGANIZATION_RATE_PER_MINUTE", default=60_000, minimum=1)
LIVE_KEY_RATE_PER_MINUTE: Final = env_int("LIVE_KEY_RATE_PER_MINUTE", default=6_000, minimum=1)
TEST_KEY_RATE_PER_MINUTE: Final = env_int("TEST_KEY_RATE_PER_MINUTE", default=60, minimum=1)
# Calls of one organization in flight at once. More lets one tenant fill the queue.
ORGANIZATION_CONCURRENCY: Final = env_int("ORGANIZATION_CONCURRENCY", default=256, minimum=1)
# Largest request body in bytes, refused before it is read; of versions that take tensors by name; a version may have its own.
MAX_BODY_BYTES: Final = env_int("MAX_BODY_BYTES", default=1024 * 1024, minimum=1024)
MAX_TENSOR_BODY_BYTES: Final = env_int("MAX_TENSOR_BODY_BYTES", default=4 * 1024 * 1024, minimum=1024)
# Longest a call's body may take to come, in milliseconds: a caller who dribbles holds a place.
BODY_TIMEOUT_MS: Final = env_int("BODY_TIMEOUT_MS", default=10_000, minimum=100)
# Examples in one call, and characters of all its texts together.
MAX_CALL_ROWS: Final = env_int("MAX_CALL_ROWS", default=256, minimum=1)
MAX_TEXT_CHARACTERS: Final = env_int("MAX_TEXT_CHARACTERS", default=100_000, minimum=1)
# Longest a call may take, in milliseconds, and what it gets without X-Timeout-Ms.
MAX_TIMEOUT_MS: Final = env_int("MAX_TIMEOUT_MS", default=60_000, minimum=1)
DEFAULT_TIMEOUT_MS: Final = env_int("DEFAULT_TIMEOUT_MS", default=30_000, minimum=1)
# Hours an idempotency key's reply is kept, and days of the request log.
IDEMPOTENCY_HOURS: Final = env_int("IDEMPOTENCY_HOURS", default=24, minimum=1)
REQUEST_LOG_DAYS: Final = env_int("REQUEST_LOG_DAYS", default=30, minimum=1)

# ---------------------------------------------------------------- Inference

# Where models run: local, beside each gateway; ray, on the nodes of the cluster at RAY_ADDRESS (extra `ray`).
ENGINE: Final = env_choice("ENGINE", default="local", choices=("local", "ray"))
RAY_ADDRESS: Final = env_str("RAY_ADDRESS", default="local")
# Worker processes; 0 is one per GPU that is used, else one per core. Each holds its own copy of every loaded model.
INFERENCE_WORKERS: Final = env_int("INFERENCE_WORKERS", default=0, minimum=0, maximum=256)
# auto: a GPU where there is one; cpu: never; cuda: asked for even where none is seen from here (Ray's nodes have it).
INFERENCE_DEVICE: Final = env_choice("INFERENCE_DEVICE", default="auto", choices=("auto", "cpu", "cuda"))
# Megabytes of a GPU for the weights and runs of each loaded model, in each worker. A run that needs more fails.
GPU_MODEL_MEMORY_MB: Final = env_int("GPU_MODEL_MEMORY_MB", default=4096, minimum=64)
# Megabytes of each worker for loaded models: the one called least recently makes room. Minutes without a call that unload one; 0 is never.
MODELS_MEMORY_MB: Final = env_int("MODELS_MEMORY_MB", default=2048, minimum=64)
MODEL_IDLE_MINUTES: Final = env_int("MODEL_IDLE_MINUTES", default=60, minimum=0)
# Rows that may wait for a worker before calls are refused with 503.
MAX_QUEUE_ROWS: Final = env_int("MAX_QUEUE_ROWS", default=1024, minimum=1)
# MB of answers that each gateway keeps for organizations that turned that on; 0 none. More is found again more often.
RESPONSE_CACHE_MB: Final = env_int("RESPONSE_CACHE_MB", default=64, minimum=0, maximum=65536)
# Where published artifacts lie, one folder per version.
ARTIFACTS_DIR: Final = Path(env_str("ARTIFACTS_DIR", default=str(VAR_DIR / "artifacts"))).resolve()
# Serve the int8 model of a version that has one, where it runs on a CPU; no: float32 everywhere.
SERVE_INT8: Final = env_bool("SERVE_INT8", default=True)
STARTER_DIR: Final = BASE_DIR / "inference" / "starter"

# ---------------------------------------------------------------- Publishing

# Largest upload of a version's files, in megabytes: it passes through the disk of VAR_DIR and the temporary folder.
MAX_UPLOAD_MB: Final = env_int("MAX_UPLOAD_MB", default=288, minimum=1, maximum=2048)
# Room for all files of an organization's versions, in megabytes.
ORGANIZATION_STORAGE_MB: Final = env_int("ORGANIZATION_STORAGE_MB", default=2048, minimum=1)
# Longest each of an examination's steps may take, in seconds. A hostile model holds a core for so long.
GATE_TIMEOUT_S: Final = env_int("GATE_TIMEOUT_S", default=120, minimum=5, maximum=3600)

# ---------------------------------------------------------------- Work off the call

# redis://host or amqp://host when the site grows; without it Celery speaks through files.
CELERY_BROKER_URL = env_str("CELERY_BROKER_URL", default="filesystem://localhost")
CELERY_BROKER_TRANSPORT_OPTIONS: dict[str, Any] = broker_options(CELERY_BROKER_URL, folder=VAR_DIR / "broker")
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_TIME_LIMIT = 600
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE: Final = BEAT_SCHEDULE

# ---------------------------------------------------------------- Predictions, batches, webhooks

# Where the runner reaches the gateway's inner door. With gateways behind a balancer, the balancer's inner address.
GATEWAY_URL: Final = env_str("GATEWAY_URL", default=f"http://{'127.0.0.1' if HOST in {'0.0.0.0', '::'} else HOST}:{PORT}").rstrip("/")  # noqa: S104 (compared)
# Rows run at once off the line, for each inference worker. More fills batches better; less lets live calls in sooner.
BACKGROUND_ROWS_PER_WORKER: Final = env_int("BACKGROUND_ROWS_PER_WORKER", default=8, minimum=1, maximum=256)
# Lines of one batch file, and its bytes, read into memory at once.
MAX_BATCH_ROWS: Final = env_int("MAX_BATCH_ROWS", default=50_000, minimum=1)
MAX_BATCH_BYTES: Final = env_int("MAX_BATCH_BYTES", default=16 * 1024 * 1024, minimum=1024)
# Hours a prediction or batch may wait for room or money, and days its result is kept; disk.
PREDICTION_HOURS: Final = env_int("PREDICTION_HOURS", default=24, minimum=1)
PREDICTION_DAYS: Final = env_int("PREDICTION_DAYS", default=7, minimum=1)
# Inputs and outputs kept for one organization, in bytes; disk.
STORED_BYTES_PER_ORGANIZATION: Final = env_int("STORED_BYTES_PER_ORGANIZATION", default=256 * 1024 * 1024, minimum=1024 * 1024)
# Webhook endpoints of one organization: each event is sent to every one.
MAX_WEBHOOK_ENDPOINTS: Final = env_int("MAX_WEBHOOK_ENDPOINTS", default=20, minimum=1)
# Days the delivery log is kept; disk.
WEBHOOK_LOG_DAYS: Final = env_int("WEBHOOK_LOG_DAYS", default=30, minimum=4)
# Whether webhooks may go to this machine over plain HTTP: for trying them out. Never where strangers have accounts.
WEBHOOKS_TO_LOOPBACK: Final = env_bool("WEBHOOKS_TO_LOOPBACK", default=False)

# ---------------------------------------------------------------- REST API

REST_FRAMEWORK = REST_FRAMEWORK_OPTIONS
SPECTACULAR_SETTINGS: Final = rest_documentation(SITE_URL)

# ---------------------------------------------------------------- Operator's dashboard

UNFOLD: Final = OPERATOR_PAGES

# ---------------------------------------------------------------- Browser

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "marketplace" / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "marketplace.static_files.StaticFiles"},
}
# Django would give each stored file mode 0644, past manage.py's umask: nothing under var/ is for others.
FILE_UPLOAD_PERMISSIONS = None
LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("zh-hans", _("Simplified Chinese"))]
LOCALE_PATHS = [BASE_DIR / "marketplace" / "locale"]
TIME_ZONE = "UTC"
FORMAT_MODULE_PATH = "marketplace.formats"  # 2026-11-22 20:53:55 UTC, and not "Nov. 22, 2026, 8:53 p.m."
USE_TZ = True
USE_I18N = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = SITE_IS_HTTPS
SESSION_COOKIE_NAME = "__Host-session" if SITE_IS_HTTPS else "farebox-session"
CSRF_COOKIE_SECURE = SITE_IS_HTTPS
CSRF_COOKIE_NAME = "__Host-csrf" if SITE_IS_HTTPS else "farebox-csrf"
CSRF_TRUSTED_ORIGINS = [SITE_URL]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if SITE_IS_HTTPS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SITE_IS_HTTPS
SECURE_HSTS_PRELOAD = SITE_IS_HTTPS
SECURE_SSL_REDIRECT = SITE_IS_HTTPS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if TRUSTED_PROXIES else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF, "data:"],
        "object-src": ["'none'"],
        "base-uri": ["'none'"],
        # A form that leads to a payment page is answered by a redirect there, which browsers hold to this, too.
        "form-action": [SELF, *PAYMENT_PAGES[PAYMENTS]],
        "frame-ancestors": ["'none'"],
    },
}

# ---------------------------------------------------------------- Watching it

# A scraper's bearer token for /metrics. Without one only this machine may read them, while the site is open to it alone.
METRICS_TOKEN: Final = env_str("METRICS_TOKEN", default="")

# Where OpenTelemetry traces go, as OTLP over HTTP; none by default, and then they cost nothing (extra `otel`).
OTEL_EXPORTER_OTLP_ENDPOINT: Final = env_str("OTEL_EXPORTER_OTLP_ENDPOINT", default="")
OTEL_SERVICE_NAME: Final = env_str("OTEL_SERVICE_NAME", default="farebox")
# Percent of calls that are traced when their caller says nothing of it. Each costs some 350 us of CPU.
OTEL_SAMPLE_PERCENT: Final = env_int("OTEL_SAMPLE_PERCENT", default=1, minimum=0, maximum=100)

# ---------------------------------------------------------------- Logs

# text for people, or json: one object a line, for programs.
LOG_FORMAT: Final = env_choice("LOG_FORMAT", default="text", choices=("text", "json"))
# A line for each model call, beside the request log in the database. Costs 100 us of CPU a call, and disk.
LOG_CALLS: Final = env_bool("LOG_CALLS", default=False)
LOGGING: dict[str, Any] = logging_options(form=LOG_FORMAT, level=env_str("LOG_LEVEL", default="INFO"), calls=LOG_CALLS)
