"""How the REST API is documented: drf-spectacular's configuration, read by the settings."""

from typing import Any


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
                "Organization",
            )
        ],
        "PREPROCESSING_HOOKS": ["marketplace.api.schema.without_pages"],
        "POSTPROCESSING_HOOKS": ["drf_spectacular.hooks.postprocess_schema_enums", "marketplace.api.schema.add_gateway"],
        "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
        "ENUM_NAME_OVERRIDES": {
            "PredictionStatus": "marketplace.models.jobs.Prediction.Status",
            "BatchStatus": "marketplace.models.jobs.Batch.Status",
        },
    }
