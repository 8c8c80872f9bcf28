"""How ms-swift's users write the options of the selection: environment variables, which a YAML sets under `ENV:`."""

PREFIX = "SSTOKEN_"


def own_name(option: str) -> str:
    """`SSTOKEN_RHO` for `rho`."""
    return PREFIX + option.upper()
