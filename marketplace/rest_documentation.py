"""How the REST API behaves and is documented: the configuration of its two libraries, read by the settings."""

from typing import Any, Final

REST_FRAMEWORK_OPTIONS: Final = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["marketplace.api.authentication.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["marketplace.api.permissions.HasScope"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "marketplace.api.errors.render_problem",
    "UNAUTHENTICATED_USER": None,
    "COERCE_DECIMAL_TO_STRING": True,
}


def rest_documentation(site_url: str) -> dict[str, Any]:
    """Return drf-spectacular's settings for a site at that address."""
    return {
        "TITLE": "Farebox",
        "DESCRIPTION": "Call machine-learning models, and manage keys, usage and invoices.",
        "VERSION": "1",
        "OAS_VERSION": "3.1.0",
        "SERVERS": [{"url": site_url}],
        "SERVE_INCLUDE_SCHEMA": False,
        "SCHEMA_PATH_PREFIX": "/v1",
        "TAGS": [
            {"name": name}
            for name in (
                "Predict",
                "Models",
                "Publishing",
                "Keys",
                "Predictions",
                "Batches",
                "Webhooks",
                "Requests",
                "Usage",
                "Invoices",
                "Billing",
                "Revenue",
                "Receipts",
                "Organization",
            )
        ],
        "PREPROCESSING_HOOKS": ["marketplace.api.schema.without_pages"],
        "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "marketplace.api.schema.add_gateway"],
        "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
        "ENUM_NAME_OVERRIDES": {
            "PredictionStatus": "marketplace.models.jobs.Prediction.Status",
            "InvoiceStatus": "marketplace.api.invoices.STATUSES",
            "BatchStatus": "marketplace.models.jobs.Batch.Status",
        },
    }
