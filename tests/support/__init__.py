"""What several test files share, imported as ``support``; no test is here."""
