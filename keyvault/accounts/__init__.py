"""People, teams, second factors, sessions and invitations."""
