"""The Django project and the top of the house: tenants, keys, catalogue, gateway, pages, admin."""
