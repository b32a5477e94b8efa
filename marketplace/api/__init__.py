"""The REST API beside the metered call: keys, catalogue, usage, requests, invoices."""
