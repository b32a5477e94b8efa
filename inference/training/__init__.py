"""Recipes that train the starter catalogue. The only package that imports torch; serving never imports this."""
