"""Gather the packages' models for Django; nobody else imports this module."""
