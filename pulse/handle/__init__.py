"""The application's access to the scheduler: `environ["pulse.scheduler"]`."""
