"""Widgets for JupyterLab: a state, a view and a controller each."""
