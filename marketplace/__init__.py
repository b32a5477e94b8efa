"""The Django project and the top of the house: tenants, keys, catalogue, gateway, pages, admin."""

__version__ = "0.1.0"
