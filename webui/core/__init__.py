"""The vocabulary of the studio: requests, settings, plans, measurements, errors. No I/O."""
