"""The probe as a module that builds its application when it is imported."""

from tests.support.probe import hello, wrap, write_event

app = wrap(hello)
write_event("loaded", "module")
