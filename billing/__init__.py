"""Who pays, what it costs, and what was used. Knows accounts and SKUs, not tenants or models."""
