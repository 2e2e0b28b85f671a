"""HTTP."""

ROUTERS = ()
