"""Open the way back in for an administrator who lost the second factor, a day after asking."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse
from django.utils import timezone

from keyvault.actions import recover_administrator


class Command(BaseCommand):
    """Ask first; a day later the same command prints the link and the code."""

    help = "Reset an administrator's second factor after 24 hours, and open one enrolment."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Take the user name."""
        parser.add_argument("username")

    def handle(self, *_args: object, **options: Any) -> None:
        """Print what happens when. Raises CommandError with the mend."""
        username, now = str(options["username"]), timezone.now()
        try:
            opened = recover_administrator.open_enrolment(username=username, now=now)
            if opened is not None:
                link = settings.PUBLIC_URL + reverse("enrol-again", args=[opened[0].pk])
                self.stdout.write(f"link {link}\ncode {opened[1]}")
                return
            found = recover_administrator.ask(username=username, now=now)
        except recover_administrator.CannotRecover as error:
            raise CommandError(str(error)) from error
        self.stdout.write(
            f"The second factor of {found.person} is reset at {found.opens_at:%d %b %Y %H:%M} UTC, "
            "unless an administrator cancels it on the System page. Everybody enrolled is told. "
            "Run this command again after that for the link and the code."
        )
