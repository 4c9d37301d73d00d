"""What routers and workers must know alike of the pool's certificates."""

SERVER_NAME = "router.allsorts.internal"
"""The name every router has in its certificate, whatever its address; no worker certificate bears it."""

AUTHORITY_EXTENSION = "2.25.198437423651274390128374650192837465"
"""A UUID-based identifier (ITU-T X.667), ours alone: the CA's certificate, DER, inside the router's."""

ENROL_PORT_EXTENSION = "2.25.125564296347077280919949973991965245959"
"""Another one: the port that enrols machines, as a UTF8String, for those who dialled elsewhere."""

INSTALL_PORT_EXTENSION = "2.25.67830152493871650284417093326518840127"
"""And another: the port where the router hands itself out, as a UTF8String."""

UTF8_STRING = 0x0C
"""ASN.1's tag of one."""

BACKDATED_S = 600.0
"""Certificates begin this long before they are made: clocks differ."""
